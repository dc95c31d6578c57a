"""The GPU catalog: names, figures, and a user's hardware file on top."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from blis_sim.catalog.gpus import (
    RooflineV1Constants,
    canonical_gpu_name,
    list_gpus,
    load_gpu,
    same_gpu_key,
)
from blis_sim.catalog.paths import configs_dir
from blis_sim.errors import CatalogError

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "gpus.csv"


def write_hardware(folder: Path, content: object) -> Path:
    path = folder / "hardware.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("H100", "H100"),
        ("h100-sxm", "H100"),
        ("H100_SXM", "H100"),
        ("h100-80gb-hbm3", "H100"),
        ("NVIDIA H100", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("A100-80GB", "A100-80"),
        ("a100-sxm", "A100-80"),
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA A100-SXM4-40GB", "A100-40"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("rtxpro6000", "RTX-PRO-6000"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_lookup_knows_aliases_and_long_names(name: str, canonical: str) -> None:
    """Case, punctuation, vendor words and aliases do not matter."""
    assert load_gpu(name).name == canonical
    assert canonical_gpu_name(name) == canonical


def test_no_name_means_two_gpus() -> None:
    """Names and aliases of the catalog are all different when normalised."""
    names = [(n, gpu.name) for gpu in list_gpus() for n in (gpu.name, *gpu.aliases)]
    assert len(names) > 40
    for name, owner in names:
        assert canonical_gpu_name(name) == owner


def test_unknown_gpu_lists_the_nearest() -> None:
    """A misspelt name is an error with near names and the way to add one."""
    with pytest.raises(CatalogError, match=r"hardware must be a known name; got 'H1000'.*H100"):
        load_gpu("H1000")
    assert canonical_gpu_name("H1000") is None


def test_names_outside_the_catalog_compare_by_spelling() -> None:
    """Two spellings of a GPU that is not shipped are still one GPU."""
    assert same_gpu_key("NVIDIA My-Chip 3") == same_gpu_key("my_chip_3")
    assert same_gpu_key("NVIDIA H100") == same_gpu_key("H100-SXM")
    assert same_gpu_key("H100") != same_gpu_key("H100-PCIe")


def test_figures_are_plausible() -> None:
    """Peaks are dense, reported memory is below the label, links are faster than PCIe."""
    for gpu in list_gpus():
        assert 1 < gpu.bf16_tflops_dense < 10_000
        assert (
            gpu.fp8_tflops_dense is None
            or 1.9 < gpu.fp8_tflops_dense / gpu.bf16_tflops_dense < 2.1
        )
        assert 100 < gpu.hbm_gb_per_s < 20_000
        assert gpu.memory_gib is not None
        assert gpu.memory_gb_label is not None
        assert 0.9 < gpu.memory_gib / gpu.memory_gb_label < 1
        assert gpu.tdp_w is not None
        assert gpu.roofline_v1.peak_tflops == gpu.bf16_tflops_dense
        assert gpu.roofline_v1.bandwidth_tb_per_s == pytest.approx(gpu.hbm_gb_per_s / 1000)


def test_bridges_join_pairs() -> None:
    """A40 and H100 NVL have bridges; switches and meshes join whatever a server holds."""
    gpus = {gpu.name: gpu for gpu in list_gpus()}
    assert {name for name, gpu in gpus.items() if gpu.nvlink_gpus} == {"A40", "H100-NVL"}
    assert gpus["H100-NVL"].direct_gb_per_s(2) == 600
    assert gpus["H100-NVL"].direct_gb_per_s(4) is None
    assert gpus["H100"].direct_gb_per_s(8) == 900
    assert gpus["L40S"].direct_gb_per_s(2) is None


def test_attention_of_the_architectures() -> None:
    """FlashAttention 3 is Hopper's, 2 that of Ampere, Ada and workstation Blackwell."""
    gpus = {gpu.name: gpu for gpu in list_gpus()}
    versions = {name: gpu.flash_attention_version for name, gpu in gpus.items()}
    assert {name for name, version in versions.items() if version == 3} == {
        name for name in gpus if name.startswith(("H1", "H2", "H8"))
    }
    assert {versions[name] for name in ("A100-80", "A10", "L40S", "RTX-PRO-6000")} == {2}
    assert {versions[name] for name in ("T4", "V100-SXM2-32", "B200", "MI300X")} == {None}
    assert (gpus["A100-80"].num_sms, gpus["RTX-PRO-6000"].num_sms) == (108, 188)


def test_catalog_agrees_with_the_reference_table() -> None:
    """Every figure of the reference table is carried over; the gaps are marked estimates."""
    if not REFERENCE.is_file():
        pytest.skip("reference data ../shared is not here")
    with REFERENCE.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    gpus = {gpu.name: gpu for gpu in list_gpus()}
    assert list(gpus) == [row["name"] for row in rows]
    for row in rows:
        gpu = gpus[row["name"]]
        pairs = [
            (gpu.bf16_tflops_dense, row["bf16_tflops_dense"]),
            (gpu.fp8_tflops_dense, row["fp8_tflops_dense"]),
            (gpu.hbm_gb_per_s, row["hbm_gb_per_s"]),
            (gpu.memory_gb_label, row["memory_gb_label"]),
            (gpu.nvlink_gb_per_s, row["nvlink_gb_per_s_bidirectional"]),
            (gpu.tdp_w, row["tdp_w"]),
        ]
        assert all(got == (float(text) if text else None) for got, text in pairs), gpu.name
        assert set(filter(None, row["aliases"].split(","))) <= set(gpu.aliases)
        if row["memory_gib_reported"]:
            assert gpu.memory_gib == float(row["memory_gib_reported"])
            assert not gpu.memory_gib_is_estimate


@pytest.mark.parametrize(
    ("name", "peak", "bandwidth"), [("H100", 989.5, 3.35), ("A100-80", 312, 2.039)]
)
@pytest.mark.parametrize("from_file", [False, True])
def test_published_v1_constants(
    name: str, peak: float, bandwidth: float, *, from_file: bool
) -> None:
    """The v1 constants are BLIS's, in the catalog and in the shipped hardware file."""
    path = configs_dir() / "hardware_config.json" if from_file else None
    assert load_gpu(name, path).roofline_v1 == RooflineV1Constants(
        peak_tflops=peak,
        bandwidth_tb_per_s=bandwidth,
        bandwidth_efficiency=0.72,
        mfu_prefill=0.65,
        mfu_decode=0.12,
        per_layer_overhead_us=20.0,
        fixed_overhead_us=500.0,
        allreduce_us=20.0,
    )


def test_shipped_hardware_file_changes_nothing() -> None:
    """Giving the shipped hardware file is the same as giving none."""
    path = configs_dir() / "hardware_config.json"
    for name in ("H100", "A100-80", "A100-SXM", "h100-sxm", "A100-80GB"):
        assert load_gpu(name, path) == load_gpu(name)


def test_file_wins_key_by_key(tmp_path: Path) -> None:
    """What the file says about a shipped GPU wins; what it leaves out stays."""
    path = write_hardware(
        tmp_path, {"h100-sxm": {"mfuprefill": 0.5, "BWPEAKTBS": 3.0, "MemoryGiB": 70}}
    )
    gpu, shipped = load_gpu("NVIDIA H100", path), load_gpu("H100")
    assert gpu.roofline_v1.mfu_prefill == 0.5
    assert gpu.roofline_v1.mfu_decode == shipped.roofline_v1.mfu_decode
    assert (gpu.hbm_gb_per_s, gpu.roofline_v1.bandwidth_tb_per_s) == (3000.0, 3.0)
    assert gpu.memory_gib == 70
    assert gpu.tdp_w == shipped.tdp_w
    assert gpu.source == str(path)


def test_gpu_only_in_the_file(tmp_path: Path) -> None:
    """A new GPU needs peak and bandwidth; its memory is unknown unless given."""
    path = write_hardware(tmp_path, {"MyChip": {"TFlopsPeak": 500, "BwPeakTBs": 2}})
    gpu = load_gpu("mychip", path)
    assert (gpu.name, gpu.bf16_tflops_dense, gpu.hbm_gb_per_s) == ("MyChip", 500.0, 2000.0)
    assert gpu.memory_gib is None
    assert gpu.roofline_v1.mfu_decode == 0.12


def test_new_gpu_without_required_keys(tmp_path: Path) -> None:
    """The missing key of a new GPU is named."""
    path = write_hardware(tmp_path, {"MyChip": {"TFlopsPeak": 500}})
    with pytest.raises(CatalogError, match=r"MyChip must give TFlopsPeak.*missing: BwPeakTBs"):
        load_gpu("MyChip", path)


def test_gpu_not_in_the_given_file(tmp_path: Path) -> None:
    """A shipped GPU is not silently used when the given file lacks it."""
    path = write_hardware(tmp_path, {"H100": {"mfuPrefill": 0.5}, "L4": {"mfuPrefill": 0.5}})
    with pytest.raises(CatalogError, match=r"hardware must be a GPU of .*the file has: H100, L4"):
        load_gpu("H200", path)


def test_two_names_of_one_gpu_must_agree(tmp_path: Path) -> None:
    """The literal name decides; a third name of the GPU is refused when the entries differ."""
    content = {"A100-SXM": {"mfuPrefill": 0.5}, "A100-80": {"mfuPrefill": 0.6}}
    path = write_hardware(tmp_path, content)
    assert load_gpu("a100-sxm", path).roofline_v1.mfu_prefill == 0.5
    assert load_gpu("A100-80", path).roofline_v1.mfu_prefill == 0.6
    with pytest.raises(CatalogError, match=r"different constants under A100-SXM, A100-80"):
        load_gpu("A100", path)
