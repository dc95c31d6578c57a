"""Exports of Nsight Compute become points: both layouts, units, separators, what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blis_sim.cli.main import main
from blis_sim.errors import ConfigError
from blis_sim.roofline.locale_numbers import decimal_mark, parse_number
from blis_sim.roofline.ncu import Grouping, collect_command, import_ncu
from blis_sim.roofline.ncu_csv import unit_factor
from blis_sim.roofline.points import MeasuredPoint, read_points
from blis_sim.roofline.points_file import read_points_file

FADD, FMUL, FFMA = (
    f"sm__sass_thread_inst_executed_op_{op}_pred_on.sum" for op in ("fadd", "fmul", "ffma")
)
TENSOR = "sm__inst_executed_pipe_tensor.sum"
HEAD = '"ID","Process ID","Kernel Name","Context","Section Name"'
PREAMBLE = """==PROF== Connected to process 71 (/usr/bin/app)
the program printed this, with commas
==PROF== Profiling "saxpy" - 0: 0%....50%....100% - 3 passes
==PROF== Disconnected from process 71
"""
# 1e6 + 2e6 + 2 x 3e6 = 9e6 FLOPs; 4.5e6 bytes of DRAM; 10 us.
SAXPY = {
    "dram__bytes.sum": ("Mbyte", "4.50"),
    "lts__t_bytes.sum": ("Kbyte", "9,000"),
    "l1tex__t_bytes.sum": ("byte", "18,000,000"),
    "gpu__time_duration.sum": ("usecond", "10.00"),
    FADD: ("inst", "1,000,000"),
    FMUL: ("Minst", "2"),
    FFMA: ("inst", "3,000,000"),
    TENSOR: ("inst", "0"),
}
# 1000 tensor instructions x 512 = 512,000 FLOPs; 128,000 bytes; 2 us.
GEMM = {
    "dram__bytes.sum": ("Mbyte", "0.128"),
    "lts__t_bytes.sum": ("Kbyte", "256"),
    "l1tex__t_bytes.sum": ("byte", "512,000"),
    "gpu__time_duration.sum": ("usecond", "2.00"),
    FADD: ("inst", "0"),
    FMUL: ("Minst", "0"),
    FFMA: ("inst", "0"),
    TENSOR: ("inst", "1,000"),
}
Metrics = dict[str, tuple[str, str]]


def long(tmp_path: Path, *launches: tuple[str, Metrics], preamble: str = PREAMBLE) -> Path:
    """Write an export with a row per launch and metric."""
    rows = [f'{HEAD},"Metric Name","Metric Unit","Metric Value"']
    for number, (kernel, metrics) in enumerate(launches):
        rows += [
            f'"{number}","71","{kernel}","1","Command line","{name}","{unit}","{value}"'
            for name, (unit, value) in metrics.items()
        ]
    path = tmp_path / "long.csv"
    path.write_text(preamble + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def wide(tmp_path: Path, *launches: tuple[str, Metrics], delimiter: str = ",") -> Path:
    """Write an export with a row per launch, units in the second row."""
    first = launches[0][1]

    def row(cells: list[str]) -> str:
        return delimiter.join(f'"{cell}"' for cell in cells)

    rows = [row(["ID", "Process ID", "Kernel Name", "Block Size", *first])]
    rows.append(row(["", "", "", "", *(unit for unit, _ in first.values())]))
    rows += [
        row([str(number), "71", kernel, "(256, 1, 1)", *(value for _, value in metrics.values())])
        for number, (kernel, metrics) in enumerate(launches)
    ]
    path = tmp_path / "wide.csv"
    path.write_text(PREAMBLE + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def by_level(points: list[MeasuredPoint], name: str) -> dict[str, tuple[float, float]]:
    """Return (intensity, TFLOP/s) by level of the points with a name."""
    return {point.level: (point.oi, point.tflops) for point in points if point.name == name}


@pytest.mark.parametrize("layout", [long, wide])
def test_both_layouts_give_the_figures_worked_by_hand(layout: object, tmp_path: Path) -> None:
    """FMA counts twice, a tensor instruction 512 times; each level has its own intensity."""
    assert callable(layout)
    imported = import_ncu(layout(tmp_path, ("saxpy(float*, int)", SAXPY), ("gemm", GEMM)))
    assert imported.notices == []
    assert by_level(imported.points, "saxpy(float*, int)") == {
        "DRAM": (pytest.approx(2.0), pytest.approx(0.9)),
        "L2": (pytest.approx(1.0), pytest.approx(0.9)),
        "L1": (pytest.approx(0.5), pytest.approx(0.9)),
    }
    assert by_level(imported.points, "gemm") == {
        "DRAM": (pytest.approx(4.0), pytest.approx(0.256)),
        "L2": (pytest.approx(2.0), pytest.approx(0.256)),
        "L1": (pytest.approx(1.0), pytest.approx(0.256)),
    }
    assert imported.points[0].duration_us == pytest.approx(10)
    assert imported.points[0].gb_per_s == pytest.approx(450)


def test_a_semicolon_and_a_decimal_comma(tmp_path: Path) -> None:
    """1.234,5 and 1 234,5 are 1234.5: the file's own numbers tell which mark is decimal."""
    metrics = SAXPY | {
        "dram__bytes.sum": ("Kbyte", "4.500,0"),
        "lts__t_bytes.sum": ("Kbyte", "9\u202f000,0"),
        "l1tex__t_bytes.sum": ("byte", "18.000.000"),
        "gpu__time_duration.sum": ("nsecond", "10.000"),
        FADD: ("inst", "1 000 000"),
        FFMA: ("inst", "3.000.000"),
    }
    path = wide(tmp_path, ("saxpy", metrics), delimiter=";")
    assert by_level(import_ncu(path).points, "saxpy") == {
        "DRAM": (pytest.approx(2.0), pytest.approx(0.9)),
        "L2": (pytest.approx(1.0), pytest.approx(0.9)),
        "L1": (pytest.approx(0.5), pytest.approx(0.9)),
    }


@pytest.mark.parametrize(
    ("text", "mark", "value"),
    [
        ("1,234.5", ".", 1234.5),
        ("1.234,5", ",", 1234.5),
        ("1 234,5", ",", 1234.5),
        ("1\u00a0234\u00a0567", "", 1234567),
        ("1'234.5", ".", 1234.5),
        ("1,234,567", ".", 1234567),
        ("1.234.567", ",", 1234567),
        ("0,128", ",", 0.128),
        ("12.5", ".", 12.5),
        ("1,234", "", 1234),
        ("1.5 M", ".", 1.5e6),
        ("3K", "", 3000),
        ("1.5e+06", ".", 1.5e6),
    ],
)
def test_numbers(text: str, mark: str, value: float) -> None:
    """What proves its decimal mark proves it; what does not is read with a point."""
    found = decimal_mark([text])
    assert found == (mark or ".")
    assert parse_number(text, found) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "n/a", "(256, 1, 1)", "1.2.", "abc", "--1"])
def test_no_number(text: str) -> None:
    """Text and broken numbers are none."""
    assert parse_number(text) is None


def test_numbers_that_contradict_each_other(tmp_path: Path) -> None:
    """A file has one decimal mark."""
    metrics = SAXPY | {"lts__t_bytes.sum": ("Kbyte", "9,5")}
    with pytest.raises(ConfigError, match=r"long\.csv: numbers must have one decimal mark"):
        import_ncu(long(tmp_path, ("saxpy", metrics)))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("byte", 1), ("Kbyte", 1e3), ("Mbyte", 1e6), ("Gbyte", 1e9), ("KB", 1e3)),
        *(("MB", 1e6), ("GB", 1e9), ("MiB", 2**20), ("nsecond", 1e-9), ("usecond", 1e-6)),
        *(("msecond", 1e-3), ("second", 1), ("us", 1e-6), ("ns", 1e-9), ("ms", 1e-3)),
        *(("inst", 1), ("Kinst", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1)),
        *(("cycle", None), ("mbyte", None), ("byte/second", None)),
    ],
)
def test_units(unit: str, factor: float | None) -> None:
    """Prefixes are powers of 1000; small ones go with seconds alone."""
    assert unit_factor(unit) == factor


def test_repeated_launches(tmp_path: Path) -> None:
    """Sums by kernel: twice the work in 10 + 30 us is 18e6 / 40e-6 = 0.45 TFLOP/s."""
    slow = SAXPY | {"gpu__time_duration.sum": ("usecond", "30.00")}
    path = long(tmp_path, ("saxpy", SAXPY), ("gemm", GEMM), ("saxpy", slow))
    points = import_ncu(path, levels=["dram"]).points
    assert [point.name for point in points] == ["saxpy", "gemm"]
    assert (points[0].oi, points[0].tflops) == (pytest.approx(2), pytest.approx(0.45))
    each = import_ncu(path, levels=["DRAM"], grouping=Grouping.LAUNCH).points
    assert [point.name for point in each] == ["saxpy #0", "gemm #1", "saxpy #2"]
    assert each[2].tflops == pytest.approx(0.3)
    (whole,) = import_ncu(path, levels=["DRAM"], grouping=Grouping.ALL).points
    assert whole.oi == pytest.approx(18_512_000 / 9_128_000)


def test_other_widths_and_another_factor(tmp_path: Path) -> None:
    """16 and 64 bits add to 32; 4096 FLOPs are those of an m16n8k16 instruction."""
    more = {
        f"sm__sass_thread_inst_executed_op_{letter}{op}_pred_on.sum": ("inst", "1,000")
        for letter in "hd"
        for op in ("add", "mul", "fma")
    }
    path = wide(tmp_path, ("gemm", GEMM | more))
    (point,) = import_ncu(path, levels=["DRAM"], flops_per_tensor_inst=4096).points
    assert point.oi * 128_000 == pytest.approx(1000 * 4096 + 2 * 4000)
    with pytest.raises(ConfigError, match="tensor instruction must be a number above 0"):
        import_ncu(path, flops_per_tensor_inst=0)


def without(*names: str) -> Metrics:
    """Return the metrics of a kernel without some."""
    return {name: value for name, value in SAXPY.items() if name not in names}


@pytest.mark.parametrize("metric", ["dram__bytes.sum", "gpu__time_duration.sum", FADD, FMUL, FFMA])
@pytest.mark.parametrize("layout", [long, wide])
def test_a_missing_metric_is_named(metric: str, layout: object, tmp_path: Path) -> None:
    """With the flag that collects it."""
    assert callable(layout)
    path = layout(tmp_path, ("saxpy", without(metric)))
    with pytest.raises(ConfigError, match=rf"{metric}; .* saxpy; .*ncu --metrics {metric} "):
        import_ncu(path)


def test_missing_levels_and_flops(tmp_path: Path) -> None:
    """L2 is needed where it is asked for; no FLOPs at all name a metric too."""
    path = long(tmp_path, ("saxpy", without("lts__t_bytes.sum", "l1tex__t_bytes.sum")))
    assert {point.level for point in import_ncu(path).points} == {"DRAM"}
    with pytest.raises(ConfigError, match=r"must have the metric lts__t_bytes\.sum"):
        import_ncu(path, levels=["DRAM", "L2"])
    with pytest.raises(ConfigError, match="level must be one of DRAM, L2, L1; got L3"):
        import_ncu(path, levels=["L3"])
    path = long(tmp_path, ("saxpy", without(FADD, FMUL, FFMA, TENSOR)))
    with pytest.raises(ConfigError, match=f"must have the metric {FFMA}"):
        import_ncu(path)


def test_one_launch_without_a_metric(tmp_path: Path) -> None:
    """A value that is not there for one kernel is missing for that kernel."""
    holey = SAXPY | {"dram__bytes.sum": ("Mbyte", "n/a")}
    with pytest.raises(ConfigError, match=r"dram__bytes\.sum; it is missing for late"):
        import_ncu(wide(tmp_path, ("saxpy", SAXPY), ("late", holey)))


def test_what_is_assumed_and_left_out_is_told(tmp_path: Path) -> None:
    """No tensor counts, a kernel that only moves data, one that stays in the cache."""
    copy = without(TENSOR) | dict.fromkeys((FADD, FFMA), ("inst", "0"))
    copy[FMUL] = ("Minst", "0")
    cached = without(TENSOR) | {"dram__bytes.sum": ("Mbyte", "0")}
    path = long(tmp_path, ("copy", copy), ("cached", cached))
    imported = import_ncu(path)
    assert [point.level for point in imported.points] == ["L2", "L1"]
    assert [notice.partition(" is not in ")[0] for notice in imported.notices] == [
        TENSOR,
        "copy has no FLOPs: it is on no roofline",
        "cached moves no bytes of DRAM: left out there",
    ]
    with pytest.raises(ConfigError, match="must hold a kernel with FLOPs and bytes"):
        import_ncu(long(tmp_path, ("copy", copy)))


def test_dram_as_read_and_written_and_parts_of_the_tensor_pipe(tmp_path: Path) -> None:
    """Where a total is not in the file, its parts are added."""
    metrics = without("dram__bytes.sum", TENSOR) | {
        "dram__bytes_read.sum": ("Mbyte", "4"),
        "dram__bytes_write.sum": ("Mbyte", "0.5"),
        "sm__inst_executed_pipe_tensor_op_hmma.sum": ("inst", "1,000"),
    }
    (point,) = import_ncu(wide(tmp_path, ("saxpy", metrics)), levels=["DRAM"]).points
    assert point.oi == pytest.approx((9e6 + 512_000) / 4.5e6)
    part = {name: value for name, value in metrics.items() if "write" not in name}
    with pytest.raises(ConfigError, match=r"must have the metric dram__bytes_write\.sum"):
        import_ncu(wide(tmp_path, ("saxpy", part)))


def test_the_details_page_names_the_duration_otherwise(tmp_path: Path) -> None:
    """Its label stands in for the metric, and does not contradict it."""
    labelled = without("gpu__time_duration.sum") | {"Duration": ("usecond", "10.00")}
    assert import_ncu(long(tmp_path, ("saxpy", labelled))).points[0].tflops == pytest.approx(0.9)
    both = {"Duration": ("usecond", "10.1")} | SAXPY
    assert import_ncu(long(tmp_path, ("saxpy", both))).points[0].tflops == pytest.approx(0.9)


def test_files_that_are_no_export(tmp_path: Path) -> None:
    """What is wrong is said with file and line."""
    path = tmp_path / "other.csv"
    with pytest.raises(ConfigError, match="must be a readable file"):
        import_ncu(path)
    path.write_text("name,oi\na,1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="header that has 'Kernel Name'; got none"):
        import_ncu(path)
    path = long(tmp_path, ("saxpy", SAXPY))
    path.write_text(path.read_text(encoding="utf-8") + '"9","71"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"long\.csv:14 must have 8 fields .*; got 2"):
        import_ncu(path)
    with pytest.raises(ConfigError, match="must hold at least one kernel"):
        import_ncu(long(tmp_path))
    wrong = SAXPY | {FADD: ("cycle", "1")}
    with pytest.raises(ConfigError, match=r"long\.csv:10: .*fadd.*got the unit 'cycle'"):
        import_ncu(long(tmp_path, ("saxpy", wrong)))
    wrong = SAXPY | {FADD: ("inst", "many")}
    with pytest.raises(ConfigError, match="must be a number >= 0; got 'many'"):
        import_ncu(long(tmp_path, ("saxpy", wrong)))


def test_points_are_those_of_the_toolkit() -> None:
    """The command names every metric an import needs, and points pass as they are."""
    command = collect_command(["DRAM"])
    assert "dram__bytes.sum" in command
    assert "lts__t_bytes.sum" not in command
    assert {FADD, FMUL, FFMA, TENSOR} <= set(command.split()[5].split(","))
    point = MeasuredPoint("k", 1.0, 2.0)
    assert read_points([point]) == [point]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table; CSV that is read back as measured points; JSON; a share of a GPU's roof."""
    path = str(long(tmp_path, ("saxpy", SAXPY)))
    assert main(["roofline", "ncu", path, "--level", "dram", "--gpu", "H100"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == [
        *("kernel", "level", "FLOP/byte", "TFLOP/s", "GB/s", "time", "us"),
        *("of", "the", "bf16", "roof"),
    ]
    # 0.9 TFLOP/s where 3350 GB/s x 2 FLOP/byte = 6.7 are possible.
    assert row.split() == ["saxpy", "DRAM", "2", "0.9", "450", "10", "13.4", "%"]
    points = tmp_path / "points.csv"
    assert main(["roofline", "ncu", path, "--csv", str(points), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["points"]
    assert [point["oi"] for point in shown] == [point.oi for point in read_points_file(points)]
    assert main(["roofline", "ncu", path, "--csv", "-", "--by", "all"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "all kernels,2,0.9,DRAM,10"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "FILE must be a CSV export of Nsight Compute"),
        (["{}", "--by", "block"], "--by must be a known name"),
        (["{}", "--csv", "{}"], "--csv must be another file"),
        (["{}", "--csv", "-", "--json"], "--csv must be a file with --json"),
        (["{}", "--level", "L3"], "level must be one of DRAM, L2, L1; got L3"),
    ],
)
def test_wrong_command_lines(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr, exit code 2."""
    path = str(long(tmp_path, ("saxpy", SAXPY)))
    assert main(["roofline", "ncu", *(each.format(path) for each in arguments)]) == 2
    assert message in capsys.readouterr().err
