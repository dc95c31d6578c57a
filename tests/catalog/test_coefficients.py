"""The coefficient table: which row counts, and bad files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from blis_sim.catalog.coefficients import (
    find_coefficients,
    load_coefficients,
    nearest_coefficient_keys,
    plain_version,
)
from blis_sim.errors import CatalogError

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "coefficients_v061.csv"
HEADER = (
    "model,gpu,tp,vllm_version,alpha0_us,alpha1_us_per_in_tok,alpha2_us_per_out_tok,"
    "beta0_us,beta1_us_per_prefill_tok,beta2_us_per_decode_tok"
)


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "coefficients.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_shipped_table_has_109_rows_of_85_keys() -> None:
    """All published rows are there, repeated keys included."""
    rows = load_coefficients()
    assert len(rows) == 109
    assert len({(row.model, row.gpu, row.tp, row.engine_version) for row in rows}) == 85


def test_shipped_table_is_the_reference_table() -> None:
    """Same rows, same order, same digits; the row that counts is the one marked effective."""
    if not REFERENCE.is_file():
        pytest.skip("reference data ../shared is not here")
    with REFERENCE.open(encoding="utf-8", newline="") as handle:
        reference = list(csv.DictReader(handle))
    for row, expected in zip(load_coefficients(), reference, strict=True):
        assert (row.model, row.gpu, row.tp) == (
            expected["model"],
            expected["gpu"],
            int(expected["tp"]),
        )
        columns = HEADER.split(",")[4:]
        assert (*row.alpha, *row.beta) == tuple(float(expected[column]) for column in columns)
    for expected in reference:
        if expected["effective(first_match)"] == "1":
            found = find_coefficients(
                expected["model"],
                expected["gpu"],
                int(expected["tp"]),
                version=expected["vllm_version"],
            )
            assert found is not None
            assert found.source.endswith(f":{int(expected['order']) + 2}")


@pytest.mark.parametrize("version", ["vllm/vllm-openai:v0.8.4", "v0.8.4", "0.8.4"])
@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B-Instruct", "LLAMA-3.1-8b-instruct"])
@pytest.mark.parametrize("gpu", ["H100", "h100-sxm", "NVIDIA H100"])
def test_spellings_of_a_key(version: str, model: str, gpu: str) -> None:
    """Versions with and without image, long and short models, GPU aliases: one row."""
    found = find_coefficients(model, gpu, 1, version=version)
    assert found is not None
    assert found.model == "meta-llama/llama-3.1-8b-instruct"
    assert found.is_exact_version
    assert found.beta[0] == pytest.approx(5752.705, abs=1e-3)


def test_other_organisation_is_another_model() -> None:
    """When both names have an organisation it must be the same."""
    assert find_coefficients("someone/llama-3.1-8b-instruct", "H100", 1) is None


def test_other_version_takes_the_first_row() -> None:
    """Without a row of that version the first of (model, GPU, TP) is used, and says so."""
    found = find_coefficients("gpt-oss-20b", "H100", 2, version="0.15.1")
    assert found is not None
    assert not found.is_exact_version
    assert found.engine_version is not None
    assert plain_version(found.engine_version) == "0.10.1.1"
    assert find_coefficients("gpt-oss-20b", "H100", 2) == found


def test_no_row_is_none_and_neighbours_are_listed() -> None:
    """A key without coefficients has neighbours: same model first, same GPU, nearest TP."""
    assert find_coefficients("llama-3.1-8b-instruct", "H100", 8) is None
    near = nearest_coefficient_keys("llama-3.1-8b-instruct", "H100", 8)
    assert near[0] == "(meta-llama/llama-3.1-8b-instruct, H100, TP 4, 0.8.4)"
    assert len(near) == len(set(near)) == 3
    (other,) = nearest_coefficient_keys("llama-3.2-8b-instruct", "A100-80GB", 2, count=1)
    assert other == "(meta-llama/llama-3.1-8b-instruct, A100-80, TP 2, 0.8.4)"


def test_first_of_a_repeated_key_and_version_choice(tmp_path: Path) -> None:
    """The first of two equal keys counts; an exact version beats an earlier row."""
    path = write(
        tmp_path,
        "m/a,H100,1,v0.8.4,1,0,0,1,0,0",
        "m/a,H100,1,v0.9.0,2,0,0,2,0,0",
        "m/a,H100,1,v0.9.0,3,0,0,3,0,0",
    )
    for version, alpha0, is_exact in [("0.9.0", 2, True), ("0.7", 1, False), (None, 1, False)]:
        found = find_coefficients("a", "H100", 1, version=version, file=path)
        assert found is not None
        assert (found.alpha[0], found.is_exact_version) == (alpha0, is_exact)
        assert found.source == f"{path}:{2 if alpha0 == 1 else 3}"


def test_user_file_is_searched_alone(tmp_path: Path) -> None:
    """A given file wins: what only the shipped table has is not found."""
    path = write(tmp_path, "m/a,MyChip,1,v0.8.4,1,2,3,4,5,6")
    assert find_coefficients("llama-3.1-8b-instruct", "H100", 1, file=path) is None
    found = find_coefficients("A", "my-chip", 1, file=path)
    assert found is not None
    assert (found.alpha, found.beta) == ((1, 2, 3), (4, 5, 6))


def test_version_column_is_optional_and_published_columns_are_accepted(tmp_path: Path) -> None:
    """A file needs no version; the columns of BLIS's published table may be there."""
    header = HEADER.replace("vllm_version,", "") + ",total_kv_blocks,best_loss"
    path = write(tmp_path, "m/a,H100,1,1,2,3,4,5,6,7463,0.1", header=header)
    found = find_coefficients("a", "H100", 1, version="0.8.4", file=path)
    assert found is not None
    assert found.engine_version is None
    assert not found.is_exact_version


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        (HEADER, ["m,H100,1,v0,x,0,0,0,0,0"], r":2:alpha0_us must be a finite number >= 0 \(us\)"),
        (HEADER, ["m,H100,1,v0,nan,0,0,0,0,0"], r":2:alpha0_us must be a finite number"),
        (HEADER, ["m,H100,1,v0,0,0,0,0,0,-1"], r":2:beta2_us_per_decode_tok must be .*got '-1'"),
        (HEADER, ["m,H100,1,v0,0,0,0,0,inf,0"], r":2:beta1_us_per_prefill_tok must be a finite"),
        (HEADER, ["m,H100,0,v0,0,0,0,0,0,0"], r":2:tp must be a whole number >= 1; got '0'"),
        (HEADER, ["m,H100," + "9" * 5000 + ",v0,0,0,0,0,0,0"], r":2:tp must be a whole number"),
        (HEADER, ["m,H100,1.5,v0,0,0,0,0,0,0"], r":2:tp must be a whole number >= 1"),
        (HEADER, [",H100,1,v0,0,0,0,0,0,0"], r":2:model must be text that is not empty"),
        (HEADER, ["m,H100,1,v0,0,0,0"], r":2 must have 10 fields as in the header; got 7"),
        (HEADER, ['m,"H100,1'], r":2 must be valid CSV"),
        (HEADER, [], r"must hold at least one row below the header"),
        (HEADER.replace("beta0_us", "beta0"), [], r":1 must hold known columns; got 'beta0'"),
        (HEADER + ",tp", [], r":1 must name each column once; got 'tp' twice"),
        (HEADER.replace("tp,", ""), [], r":1 must hold the columns .*missing: tp"),
    ],
)
def test_bad_files_name_line_and_column(
    tmp_path: Path, header: str, lines: list[str], message: str
) -> None:
    """Every class of mistake is one error with file, line and column."""
    path = write(tmp_path, *lines, header=header)
    with pytest.raises(CatalogError, match=r"coefficients\.csv" + ".*" + message) as caught:
        load_coefficients(path)
    assert "\n" not in str(caught.value)


def test_missing_empty_and_binary_files(tmp_path: Path) -> None:
    """A file that is missing, empty or not text is named."""
    with pytest.raises(CatalogError, match=r"none.csv must be a readable CSV file"):
        load_coefficients(tmp_path / "none.csv")
    empty = tmp_path / "empty.csv"
    empty.write_text("", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"empty.csv must begin with a header line"):
        load_coefficients(empty)
    empty.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogError, match=r"not UTF-8 text"):
        load_coefficients(empty)
