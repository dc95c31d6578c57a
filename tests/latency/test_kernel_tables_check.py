from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.check import CheckReport, check_folder, check_source
from blis_sim.latency.kernel_tables.layout import read_folder
from blis_sim.latency.kernel_tables.source import Source
from tests.latency.kernel_tables_written import (
    make_gpu,
    write_all,
    write_csv,
    write_decode,
    write_gemm,
    write_prefill,
)


def check(folder: Path) -> CheckReport:
    return check_source(Source.of(read_folder(folder, "Bench-1"), make_gpu()))


def kinds(report: CheckReport) -> list[tuple[str, str]]:
    return [(finding.severity, finding.kind) for finding in report.findings]


def test_coverage_counts_files_shapes_and_points(tmp_path: Path) -> None:
    """One entry per operation and format, with the range of each column."""
    write_all(tmp_path)
    write_gemm(tmp_path, [(1, 64, 64, 5), (8, 64, 64, 6), (1, 64, 128, 7)])
    report = check(tmp_path)
    assert report.findings == ()
    (gemm,) = [entry for entry in report.coverage if entry.operation == "gemm"]
    assert (gemm.num_files, gemm.num_shapes, gemm.num_points) == (1, 2, 3)
    assert gemm.ranges == "m 1-8, k 64-64, n 64-128"
    assert [entry.operation for entry in report.coverage] == ["decode", "gemm", "prefill"]


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """The others are still checked."""
    write_all(tmp_path)
    write_gemm(tmp_path, [(1, 64, 64, "fast")], dtype="fp8")
    report = check(tmp_path)
    assert report.num_errors == 1
    assert kinds(report) == [("error", "unreadable")]
    assert "gemm_fp8.csv:2:latency_us must be" in report.findings[0].text
    assert len(report.coverage) == 3


def test_less_work_in_more_time_is_reported(tmp_path: Path) -> None:
    """Beyond 2 %; how far, and in how many points."""
    write_decode(tmp_path, [(1, 1000, 60), (1, 2000, 40), (2, 1000, 40.5), (2, 2000, 80)])
    report = check(tmp_path)
    assert kinds(report) == [("warning", "non-monotone")]
    assert "1 of 4 points take longer" in report.findings[0].text
    assert "by up to 50 %" in report.findings[0].text


def test_more_than_the_hardware_can_is_reported(tmp_path: Path) -> None:
    """2 MB in 1 us are 2 TB/s on a GPU with 1 TB/s."""
    write_gemm(tmp_path, [(1, 1000, 1000, 1.0)])
    report = check(tmp_path)
    assert kinds(report) == [("warning", "above-roof")]
    assert "1 of 1 points are faster" in report.findings[0].text
    assert "of Bench-1 allow, by up to 100 %" in report.findings[0].text


def test_a_wrong_mfu_is_reported_with_the_peak_behind_it(tmp_path: Path) -> None:
    """Half the MFU: computed with twice the peak."""
    write_prefill(tmp_path, [(1000, 100, 0.1024)], header="seq_len,latency_us,mfu")
    report = check(tmp_path)
    assert kinds(report) == [("warning", "mfu-mismatch")]
    assert "a peak of 200 TFLOP/s would explain it" in report.findings[0].text


def test_gaps_odd_names_and_twins_are_reported(tmp_path: Path) -> None:
    """Nothing is left out silently."""
    write_all(tmp_path)
    write_csv(tmp_path / "moe" / "mixtral.csv", "a", [])
    write_decode(tmp_path, [(1, 1000, 20)], heads="32-8-128", suffix="bf16_tp4")
    header = "seq_len,kv_len,latency_us"
    rows = [(1000, 0, 100), (1000, 500, 150), (2000, 0, "")]
    write_prefill(tmp_path, rows, header=header)
    found = {finding.kind: finding.text for finding in check(tmp_path).findings}
    assert set(found) == {"unknown-file", "same-shape", "missing-cells", "unused-rows"}
    assert "mixtral.csv" in found["unknown-file"]
    assert "1 more files for the same shape" in found["same-shape"]
    assert "1 rows give no time" in found["missing-cells"]
    assert "1 rows have kv_len > 0" in found["unused-rows"]


def test_all_gpus_of_a_folder_are_checked(tmp_path: Path) -> None:
    """Or the one asked for."""
    write_all(tmp_path / "h100")
    write_all(tmp_path / "L40S")
    assert {report.gpu for report in check_folder(tmp_path)} == {"H100", "L40S"}
    assert [report.gpu for report in check_folder(tmp_path, "l40s")] == ["L40S"]


def test_a_flat_folder_needs_to_be_told_its_gpu(tmp_path: Path) -> None:
    """Its roofs depend on it; a folder named for a GPU tells it."""
    write_all(tmp_path / "tables")
    with pytest.raises(CatalogError, match=r"--gpu must name the GPU of .*tables"):
        check_folder(tmp_path / "tables")
    assert [report.gpu for report in check_folder(tmp_path / "tables", "H100")] == ["H100"]
    write_all(tmp_path / "a100-80")
    assert [report.gpu for report in check_folder(tmp_path / "a100-80")] == ["A100-80"]


def test_a_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    """So is one of other GPUs."""
    with pytest.raises(CatalogError, match=r"must be a folder with kernel tables of a known GPU"):
        check_folder(tmp_path)
    write_all(tmp_path / "h100")
    with pytest.raises(CatalogError, match=r"with kernel tables of L40S; got none"):
        check_folder(tmp_path, "L40S")
