from __future__ import annotations

import gzip
import itertools
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from blis_sim.errors import ConfigError, MissingExtraError
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.trace import trace_formats
from blis_sim.workload.writing.plan import choose_writer, plan_trace, trace_writers
from blis_sim.workload.writing.survey import survey_requests

from .written import make_request, make_stream, read, write

FULL = {
    "max_output_tokens": 7,
    "prefix_group": "sys",
    "prefix_tokens": 60,
    "session_id": "s",
    "round": 2,
    "slo_class": "gold",
    "tenant": "acme",
    "priority": -1,
    "timeout_us": 5_000_000,
    "abort_us": 1,
    "prompt_id": "p",
}
NAMES = [writer.name for writer in trace_writers()]


def losses_of(format_name: str, *rows: dict[str, Any]) -> list[str]:
    plan = plan_trace(make_stream(*rows), Path("t.csv"), format_name)
    begin = f"{format_name}: "
    assert all(loss.startswith(begin) for loss in plan.losses)
    return [loss.removeprefix(begin) for loss in plan.losses]


def test_every_format_that_is_written_is_read() -> None:
    """Names and titles are those of the readers."""
    readers = {reader.name: reader.title for reader in trace_formats()}
    assert {writer.name: writer.title for writer in trace_writers()}.items() <= readers.items()


@pytest.mark.parametrize("format_name", NAMES)
def test_plain_requests_lose_nothing(format_name: str) -> None:
    """Arrivals from time 0, lengths and nothing else fit into every format."""
    assert losses_of(format_name, {}, {"prompt_tokens": 5}) == []


def test_own_csv_has_the_columns_that_are_used(tmp_path: Path) -> None:
    """Nothing is written about what no request has; times are exact."""
    rows = make_stream({"timeout_us": 1_000_001}, {"slo_class": 'a,"b"'}, {"slo_class": '"'})
    assert write(rows, tmp_path / "t.csv") == []
    assert (tmp_path / "t.csv").read_text() == (
        "arrival_us,prompt_tokens,output_tokens,slo_class,timeout_s\n"
        "0,100,10,,1.000001\n"
        '1000,100,10,"a,""b""",\n'
        '2000,100,10,"""",\n'
    )


def test_other_formats_by_hand(tmp_path: Path) -> None:
    """The files are those that the other programs have."""
    rows = make_stream({"prompt_tokens": 600}, {"output_tokens": 0})
    rows[1] = rows[1]._replace(arrival_us=90_061_000_001)
    expected = {
        "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2000-01-01 00:00:00.0000000,600,10\n2000-01-02 01:01:01.0000010,100,0\n",
        "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "0.000000,GPT-4,600,10,610,API log\n",
        "mooncake": '{"timestamp": 0, "input_length": 600, "output_length": 10, '
        '"hash_ids": [0, 1]}\n{"timestamp": 90061000.001, "input_length": 100, '
        '"output_length": 0, "hash_ids": [2]}\n',
    }
    for format_name, text in expected.items():
        write(rows, tmp_path / format_name, format_name)
        assert (tmp_path / format_name).read_text() == text


def test_trace_v2_is_a_pair(tmp_path: Path) -> None:
    """Either name writes header and data; the prompt leaves its prefix out."""
    spec = make_request(arrival_us=5, **FULL)
    for name in ("a.yaml", "b.csv"):
        plan = plan_trace([spec, make_request(1, 6, priority=3)], tmp_path / name, "tracev2")
        assert plan.files[0] == tmp_path / name
        plan.write()
        assert all(file.is_file() for file in plan.files)
    header = yaml.safe_load((tmp_path / "b.yaml").read_text())
    assert (header["trace_version"], header["time_unit"]) == (2, "microseconds")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    cells = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert {name: cells[name] for name in ("prefix_length", "input_tokens", "deadline_us")} == {
        "prefix_length": "60",
        "input_tokens": "40",
        "deadline_us": "5000005",
    }
    assert list(cells).index("vllm_priority") == list(cells).index("slo_class") + 1
    assert cells["vllm_priority"] == "0"
    with pytest.raises(ConfigError, match=r"tracev2: the file must end in .yaml, .csv or .csv.gz"):
        plan_trace([spec], tmp_path / "t.txt", "tracev2")


def test_a_broken_walk_leaves_no_file(tmp_path: Path) -> None:
    """The file is whole or absent; an old one stays."""

    class Breaking(list[RequestSpec]):
        def __iter__(self) -> Iterator[RequestSpec]:
            yield from super().__iter__()
            if (walks := next(walk)) > 0:
                raise KeyboardInterrupt(walks)

    for format_name in NAMES:
        walk = itertools.count()
        plan = plan_trace(Breaking(make_stream({}, {})), tmp_path / "t.csv", format_name)
        (tmp_path / "t.csv").write_text("old")
        with pytest.raises(KeyboardInterrupt):
            plan.write()
        assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("format_name", "lost"),
    [
        ("azure", {*FULL} - {"prefix_tokens", "round"}),
        ("burstgpt", {*FULL} - {"prefix_tokens", "round"}),
        (
            "mooncake",
            {"max_output_tokens", "slo_class", "tenant", "priority", "timeout_us", "abort_us"},
        ),
        (
            "blis",
            {"max_output_tokens", "slo_class", "tenant", "priority", "timeout_us", "abort_us"},
        ),
        ("tracev2", {"max_output_tokens", "abort_us", "prompt_id"}),
        ("csv", set()),
        ("parquet", set()),
    ],
)
def test_what_is_not_kept_is_counted(format_name: str, lost: set[str]) -> None:
    """One sentence per fact, with the requests that have it."""
    found = losses_of(format_name, FULL, {}, FULL)
    assert {f"{fact} of 2 requests is not kept" for fact in lost} == {
        loss for loss in found if loss.endswith("requests is not kept")
    }


@pytest.mark.parametrize(
    ("format_name", "row", "loss"),
    [
        ("burstgpt", {"output_tokens": 0}, "1 request with 0 output tokens not written"),
        ("tracev2", {"priority": -1}, "priority of 1 request below 0 becomes 0"),
        ("csv", {"slo_class": " a"}, "blanks around labels of 1 request are not kept"),
        (
            "tracev2",
            {"prefix_group": "g"},
            "prefix_group of 1 request without prefix_tokens is not kept",
        ),
        ("mooncake", {"prompt_id": "p"}, "prompt_id of 1 request is kept as hash_ids of whole"),
        ("mooncake", {"session_id": "s"}, "that a prompt goes on from an answer is not"),
        ("blis", {"prompt_id": "p"}, "prompt_id of 1 request is kept as equal token ids"),
        (
            "mooncake",
            {"block_hashes": (3,), "hash_block_tokens": 1000},
            "block_hashes of 1 request with 1000 tokens per hash are not kept",
        ),
        (
            "mooncake",
            {"block_hashes": (3,), "hash_block_tokens": 128},
            "with 128 tokens per hash are kept for blocks of 512 tokens only",
        ),
        ("csv", {"request_id": 9}, "request_id of 1 request changes"),
        ("azure", {"arrival_us": 500}, "the 0.000500 s before the first arrival are not kept"),
    ],
)
def test_special_losses(format_name: str, row: dict[str, Any], loss: str) -> None:
    """Each one is said once, with its count, and not of requests that lose nothing."""
    plain = make_stream({}, {})
    changed = [plain[0], make_request(**({"request_id": 1, "arrival_us": 1000} | row))]
    if "arrival_us" in row:
        changed = [spec._replace(arrival_us=row["arrival_us"]) for spec in plain]
    assert plan_trace(plain, Path("t.csv"), format_name).losses == []
    (found,) = plan_trace(changed, Path("t.csv"), format_name).losses
    assert loss in found


def test_hashes_of_another_size_are_dropped_and_counted(tmp_path: Path) -> None:
    """Own files have one size of block hashes: that of the first."""
    rows = make_stream(
        {"block_hashes": (1,)}, {"block_hashes": (2,), "hash_block_tokens": 256}, {}
    )
    (loss,) = write(rows, tmp_path / "t.csv")
    assert "block_hashes of 1 request with 256 tokens per hash are not kept" in loss
    assert [spec.block_hashes for spec in read(tmp_path / "t.csv")] == [(1,), None, None]


def test_finer_hashes_become_those_of_512(tmp_path: Path) -> None:
    """A block of 512 tokens is known by the last hash in it; the last block may be partial."""
    rows = make_stream(
        {"prompt_tokens": 1025, "block_hashes": (1, 2, 3, 4, 5), "hash_block_tokens": 256},
        {"prompt_tokens": 513, "block_hashes": (1, 2, 6), "hash_block_tokens": 256},
    )
    write(rows, tmp_path / "t.jsonl")
    assert [spec.block_hashes for spec in read(tmp_path / "t.jsonl")] == [(2, 4, 5), (2, 6)]


def test_the_ending_names_the_format() -> None:
    """Capitals do not matter; unclear endings and formats that cannot be written are errors."""
    for name, format_name in (
        ("a.csv", "csv"),
        ("a.CSV.GZ", "csv"),
        ("a.parquet", "parquet"),
        ("a.jsonl", "mooncake"),
        ("a.jsonl.gz", "mooncake"),
        ("a.yml", "tracev2"),
    ):
        assert choose_writer(Path(name)).name == format_name
    with pytest.raises(ConfigError, match=r"must end in .csv, .csv.gz, .* got a.txt"):
        choose_writer(Path("a.txt"))
    for name, reason in (("vllm", "measured"), ("guidellm", "measured"), ("sharegpt", "texts")):
        with pytest.raises(
            ConfigError, match=f"to be written; got {name}, which holds .*{reason}"
        ):
            choose_writer(Path("a.csv"), name)
    with pytest.raises(ConfigError, match=r"trace format must be a known name; .* azure"):
        choose_writer(Path("a.csv"), "azur")


def test_gzip_by_the_ending(tmp_path: Path) -> None:
    """The same text, packed; the same bytes each time."""
    rows = make_stream(FULL, {})
    for name in ("a.csv", "a.csv.gz", "b.csv.gz"):
        write(rows, tmp_path / name)
    packed = (tmp_path / "a.csv.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.csv").read_bytes()
    assert packed == (tmp_path / "b.csv.gz").read_bytes()


def test_labels_have_no_blanks_around_them(tmp_path: Path) -> None:
    """The file says what its readers make of it."""
    for format_name in ("csv", "tracev2"):
        write(make_stream({"tenant": " a b "}), tmp_path / "t.csv", format_name)
        assert "a b" in (tmp_path / "t.csv").read_text().replace("\n", ",").split(",")


@pytest.mark.parametrize("label", ["", " ", "a\nb", "a\x00", "\ud800"])
def test_labels_that_are_no_text_are_refused(label: str) -> None:
    """No file is written that could not be read."""
    with pytest.raises(ConfigError, match="tenant of request 0 must be printable text"):
        survey_requests([make_request(tenant=label)])


def test_nothing_to_write_is_an_error() -> None:
    """No request at all, or none that the format can hold."""
    with pytest.raises(ConfigError, match="must have at least one request to be written"):
        plan_trace([], "t.csv")
    with pytest.raises(ConfigError, match="burstgpt: at least one request must have output"):
        plan_trace([make_request(output_tokens=0)], "t.csv", "burstgpt")


def test_an_iterator_is_refused() -> None:
    """The stream is walked twice."""
    with pytest.raises(TypeError, match="must be walkable twice"):
        plan_trace(iter(make_stream({})), "t.csv")


def test_token_lists_are_bounded_and_their_size_is_told() -> None:
    """Millions of ids in a cell are refused; hundreds of megabytes are announced."""
    with pytest.raises(ConfigError, match=r"must be at most 4,000,000 tokens .* got 4,000,001"):
        plan_trace([make_request(prompt_tokens=4_000_001)], "t.csv", "blis")
    large = [make_request(number, prompt_tokens=1_000_000) for number in range(20)]
    (remark,) = plan_trace(large, "t.csv", "blis").remarks
    assert "20,000,200 token ids are written one by one, up to 0.1 GB" in remark
    assert plan_trace(make_stream({}), "t.csv", "blis").remarks == []


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named before anything is written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"writing Parquet traces needs .*'pyarrow'"):
        plan_trace(make_stream({}), tmp_path / "t.parquet")


class Endless:
    """A stream made as it is walked, the same each time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[RequestSpec]:
        return (
            make_request(number, number, session_id=f"s{number % 9}")
            for number in range(self.count)
        )


@pytest.mark.parametrize("format_name", ["csv", "mooncake"])
def test_memory_does_not_grow_with_the_stream(tmp_path: Path, format_name: str) -> None:
    """Twenty times the requests take no more memory to be written."""
    peaks = []
    for count in (500, 500, 10_000):
        tracemalloc.start()
        write(Endless(count), tmp_path / "t.csv", format_name)  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 100_000
