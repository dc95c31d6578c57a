"""From errors to the file that results read."""

from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim import load_scenario, simulate
from blis_sim.catalog import error_bands as catalog
from blis_sim.catalog.error_bands import FigureErrors, Range, load_error_bands, read_error_bands
from blis_sim.cli.main import main
from blis_sim.errors import CatalogError
from blis_sim.metrics.accuracy import AccuracyStatus, ServedLoad
from blis_sim.metrics.context import DeployedKind
from blis_sim.validation.bands import error_bands, render_error_bands, write_error_bands
from blis_sim.validation.compare import Compared, ServedPart, ValidatedRow
from tests.cli.calls import refusal
from tests.validation.tables import FAST, row, write_table


def validated(
    error_pct: float,
    *,
    model: str = "m",
    gpu: str = "H100",
    latency_model: str = "roofline-v2",
    architecture: str = "dense",
    prompt_tokens: float = 500.0,
    **more: object,
) -> ValidatedRow:
    """Return a row of which the mean TTFT is off by so much."""
    kind = DeployedKind(
        latency_model=latency_model,
        gpu=gpu,
        architecture=architecture,
        tensor_parallel_size=1,
        num_parameters=8_030_261_248,
    )
    known: dict[str, object] = {
        "dataset": "made",
        "exp_id": model,
        "stage": -1,
        "role": "dev",
        "model": model,
        "gpu": gpu,
        "tp": 1,
        "load": "chat",
        "in_flight": None,
        "metrics": {"ttft_mean_ms": Compared(100, 100 + error_pct)},
        "latency_model": latency_model,
        "served": ServedPart(model, kind, ServedLoad(prompt_tokens, 64.0, 3.14159, 1.0)),
    }
    return ValidatedRow(**(known | more))  # type: ignore[arg-type]


def test_errors_by_hand() -> None:
    """Mean, bias and the largest, to a tenth of a percent."""
    rows = [validated(10), validated(-30), validated(5.04, model="n")]
    of_all, of_gpu = error_bands(rows, "runs.csv")
    assert (of_all.gpu, of_gpu.gpu) == ("all", "H100")
    assert of_gpu.errors == {"ttft_mean": FigureErrors(15.0, -5.0, -30.0, 3)}
    assert of_all.errors == of_gpu.errors
    assert (of_gpu.num_deployments, of_gpu.num_experiments) == (2, 2)
    assert of_gpu.source == "runs.csv"


def test_ranges_hold_what_was_measured() -> None:
    """Three digits, rounded outwards."""
    (band, _) = error_bands([validated(1, prompt_tokens=573.04), validated(1, prompt_tokens=1086)])
    assert band.ranges["prompt_tokens"] == Range(573, 1090)
    assert band.ranges["requests_in_flight"] == Range(3.14, 3.15)
    assert band.ranges["billion_parameters"] == Range(8.03, 8.04)
    assert band.ranges["output_tokens"] == Range(64, 64)


def test_kinds_are_kept_apart() -> None:
    """By latency model, architecture and GPU, all GPUs first."""
    rows = [
        validated(1, gpu="L40S"),
        validated(2),
        validated(3, architecture="moe"),
        validated(4, latency_model="blackbox"),
    ]
    keys = [(band.latency_model, band.architecture, band.gpu) for band in error_bands(rows)]
    assert keys == [
        ("blackbox", "dense", "all"),
        ("blackbox", "dense", "H100"),
        ("roofline-v2", "dense", "all"),
        ("roofline-v2", "dense", "H100"),
        ("roofline-v2", "dense", "L40S"),
        ("roofline-v2", "moe", "all"),
        ("roofline-v2", "moe", "H100"),
    ]


def test_what_was_not_simulated_has_no_band() -> None:
    """No result could carry its error."""
    assert error_bands([validated(1, served=None), validated(1, reason="no memory")]) == ()


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And the same entries are the same bytes."""
    path = tmp_path / "bands.yaml"
    bands = error_bands([validated(1.23, gpu='odd "name"'), validated(-40)], "a: b, rôle #1")
    assert write_error_bands(path, bands) == bands
    assert read_error_bands(path) == bands
    text = path.read_text(encoding="utf-8")
    assert text == render_error_bands(bands)
    write_error_bands(path, bands)
    assert path.read_text(encoding="utf-8") == text


def test_other_latency_models_are_kept(tmp_path: Path) -> None:
    """Those that answered are replaced as a whole."""
    path = tmp_path / "bands.yaml"
    write_error_bands(path, error_bands([validated(1), validated(2, gpu="L40S")]))
    write_error_bands(path, error_bands([validated(3, latency_model="blackbox")]))
    entries = write_error_bands(path, error_bands([validated(4)]))
    keys = [(band.latency_model, band.gpu) for band in entries]
    assert keys == [
        ("blackbox", "all"),
        ("blackbox", "H100"),
        ("roofline-v2", "all"),
        ("roofline-v2", "H100"),
    ]
    assert read_error_bands(path)[-1].errors["ttft_mean"].mape_pct == 4


@pytest.mark.parametrize("text", ["", "entries", "entries: [{}]", "entries: [1]", "{"])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bands.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match="must be a file of error bands"):
        read_error_bands(path)
    with pytest.raises(CatalogError, match="must be a file of error bands"):
        write_error_bands(path, [])
    assert path.read_text(encoding="utf-8") == text


# -- the command, and what results say ------------------------------------

MODEL = "Qwen/Qwen2.5-7B-Instruct"
SET = [word for text in FAST for word in ("--set", text)]


def write_runs(folder: Path) -> str:
    measured = {"ttft_mean_ms": 30, "tpot_mean_ms": 5, "e2e_mean_ms": 60}
    rows = [row(model=MODEL, **measured), row(exp_id="b", gpu="X1000", **measured)]
    return str(write_table(folder / "runs.csv", rows))


def test_the_command_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The latency model is the one that answered, and results of it then carry the errors."""
    runs, path = write_runs(tmp_path), tmp_path / "error_bands.yaml"
    command = ["validate", "--runs", runs, "--role", "dev", *SET, "--quiet"]
    assert main([*command, "--bands-out", str(path)]) == 0
    assert capsys.readouterr().out == ""
    of_all, of_gpu = read_error_bands(path)
    assert (of_gpu.latency_model, of_gpu.gpu, of_gpu.architecture) == ("blackbox", "H100", "dense")
    assert (of_gpu.num_deployments, of_gpu.source) == (1, f"runs.csv, role dev, {', '.join(FAST)}")
    assert set(of_gpu.errors) == {"ttft_mean", "tpot_mean", "e2e_mean"}
    assert of_gpu.ranges["output_tokens"] == Range(8, 8)
    assert of_all.errors == of_gpu.errors

    monkeypatch.setattr(catalog, "configs_dir", lambda: tmp_path)
    load = {"request_rate": 5, "num_requests": 20, "prompt": 100, "output": 8}
    base = {"model": MODEL, "latency": {"model": "blackbox"}, "workload": load}
    accuracy = simulate(load_scenario(base)).accuracy
    assert accuracy is not None
    assert accuracy.band == of_gpu
    own = simulate(load_scenario(base, FAST)).accuracy
    assert own is not None
    assert own.status is AccuracyStatus.EXTRAPOLATED
    assert own.outside[:2] == ("latency.alpha of your own", "latency.beta of your own")


def test_a_wrong_file_is_seen_before_anything_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, path = write_runs(tmp_path), tmp_path / "mine.txt"
    path.write_text("mine", encoding="utf-8")
    command = ("validate", "--runs", runs, *SET, "--bands-out")
    assert "must be a file of error bands" in refusal(capsys, *command, str(path))
    assert "must be another file than that of --runs" in refusal(capsys, *command, runs)
    assert "existing folder" in refusal(capsys, *command, str(tmp_path / "no" / "a.yaml"))


def test_nothing_simulated_leaves_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = write_table(tmp_path / "runs.csv", [row(gpu="X1000", ttft_mean_ms=9)])
    path = tmp_path / "bands.yaml"
    assert main(["validate", "--runs", str(runs), "--bands-out", str(path), "--quiet"]) == 1
    assert "no row was simulated" in capsys.readouterr().err
    assert not path.exists()


def test_what_is_shipped_can_be_read() -> None:
    """Every entry has errors, and ranges in which they were measured."""
    bands = load_error_bands()
    assert any(band.latency_model == "roofline-v2" and band.gpu == "H100" for band in bands)
    for band in bands:
        assert band.errors
        assert all(each.lowest <= each.highest for each in band.ranges.values())
        assert all(each.mape_pct <= abs(each.worst_pct) + 0.1 for each in band.errors.values())
    assert list(bands) == list(read_error_bands(catalog.configs_dir() / catalog.FILE))
