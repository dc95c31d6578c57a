"""Roofs of the shipped GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from blis_sim.catalog.gpus import GpuSpec, list_gpus, load_gpu
from blis_sim.catalog.paths import configs_dir
from blis_sim.errors import CatalogError
from blis_sim.roofline import Bandwidth, Peak, ceilings_of_gpu
from blis_sim.roofline import gpu_roofs as module
from blis_sim.roofline.gpu_roofs import GpuRoofs, roofs_of


def test_every_entry_is_a_gpu_of_the_catalog() -> None:
    """A misspelt name would be read and never used."""
    document = yaml.safe_load((configs_dir() / "gpus" / "roofs.yaml").read_text("utf-8"))
    assert set(document["gpus"]) <= {gpu.name for gpu in list_gpus()}


@pytest.mark.parametrize("gpu", list_gpus(), ids=lambda gpu: gpu.name)
def test_roofs_are_in_order(gpu: GpuSpec) -> None:
    """Caches are faster than the memory, tensor cores than vector units, 8 bits than 16."""
    ceilings = ceilings_of_gpu(gpu)
    rates = [bandwidth.gb_per_s for bandwidth in ceilings.bandwidths]
    assert rates == sorted(rates)
    peaks = {peak.name: peak.tflops for peak in ceilings.peaks}
    half = ceilings.peak().tflops
    assert peaks.get("fp32 vector", 0) < half
    assert peaks.get("fp8", 2 * half) == pytest.approx(2 * half, rel=0.02)
    assert peaks.get("int8", 2 * half) == pytest.approx(2 * half, rel=0.01)


def test_roofs_of_two_gpus() -> None:
    """A GPU with all levels, and one from before bf16."""
    a100 = ceilings_of_gpu(load_gpu("A100-80"))
    assert a100.bandwidths == (
        Bandwidth("DRAM", 2039.0),
        Bandwidth("L2", 5400.0),
        Bandwidth("L1", 19100.0),
    )
    assert a100.ridge("fp32 vector") == pytest.approx(9.56, abs=0.01)
    assert a100.ridge(level="L1") == pytest.approx(16.3, abs=0.1)
    assert ceilings_of_gpu(load_gpu("T4")).peaks[0] == Peak("fp16", 65.0)
    assert "H200" in ceilings_of_gpu(load_gpu("H100")).source


def test_what_is_not_known_is_not_made_up() -> None:
    """A GPU that is not in the file has the roofs of the catalog alone."""
    assert roofs_of("no such GPU") == GpuRoofs()
    assert [peak.name for peak in ceilings_of_gpu(load_gpu("H20")).peaks] == ["bf16", "fp8"]


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said which file, and what is wrong."""
    folder = tmp_path / "gpus"
    folder.mkdir()
    (folder / "roofs.yaml").write_text("gpus: {T4: {l3_gb_per_s: 1}}\n", encoding="utf-8")
    monkeypatch.setattr(module, "configs_dir", lambda: tmp_path)
    with pytest.raises(CatalogError, match=r"roofs.yaml must be the shipped roofs.*l3_gb_per_s"):
        roofs_of("T4")
