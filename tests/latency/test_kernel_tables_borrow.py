from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.catalog.gpus import GpuSpec, list_gpus, load_gpu, same_gpu_key
from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.arrays import floats
from blis_sim.latency.kernel_tables.borrow import donors_of, shipped_bench_data, tables_for
from tests.latency.kernel_tables_written import make_gpu, write_all, write_csv, write_gemm

GPUS = list_gpus()


def write_allreduce(folder: Path, us: float) -> None:
    path = folder / "allreduce" / "allreduce_tp2.csv"
    write_csv(path, "bytes,latency_us", [(1000, us), (1_000_000, 10 * us)])


def test_a_measured_gpu_borrows_nothing(tmp_path: Path) -> None:
    """Its own tables answer."""
    write_all(tmp_path / "h100")
    tables, borrowed_from = tables_for(load_gpu("H100-SXM5"), root=tmp_path)
    assert borrowed_from is None
    assert tables.measured_on("gemm") == "H100"
    assert float(tables.gemm_us(floats(1), 1024, 1024)) == 10


def test_a_gpu_without_tables_borrows_from_the_nearest(tmp_path: Path) -> None:
    """An A10 takes the L40S's efficiency at its own bandwidth."""
    write_all(tmp_path / "l40s")
    write_all(tmp_path / "a100-80")
    tables, borrowed_from = tables_for(load_gpu("A10"), root=tmp_path)
    assert borrowed_from == "L40S"
    us = float(tables.gemm_us(floats(1), 1024, 1024))
    assert us == pytest.approx(10 * 864 / 600)


def test_the_next_donor_stands_in(tmp_path: Path) -> None:
    """Where the nearest is not there the following ones are asked."""
    write_all(tmp_path / "a100-80")
    assert tables_for(load_gpu("A10"), root=tmp_path).borrowed_from == "A100-80"


def test_a_users_folder_answers_first(tmp_path: Path) -> None:
    """What it lacks comes from the other tables of the GPU, and nothing counts as borrowed."""
    write_all(tmp_path / "shipped" / "h100")
    write_allreduce(tmp_path / "shipped" / "h100", 5)
    mine = write_all(tmp_path / "mine")
    write_gemm(mine, [(1, 1024, 1024, 8)])
    tables, borrowed_from = tables_for(load_gpu("H100"), mine, root=tmp_path / "shipped")
    assert borrowed_from is None
    assert float(tables.gemm_us(floats(1), 1024, 1024)) == 8
    assert float(tables.allreduce_us(floats(1000), 2)) == 5


def test_messages_are_borrowed_over_the_same_kind_of_link(tmp_path: Path) -> None:
    """A T4 computes like an A100, but sends over PCIe like an L40S."""
    for name, us in (("a100-80", 3), ("l40s", 9)):
        write_all(tmp_path / name)
        write_allreduce(tmp_path / name, us)
    tables, borrowed_from = tables_for(load_gpu("T4"), root=tmp_path)
    assert borrowed_from == "A100-80"
    assert tables.measured_on("allreduce") == "L40S"
    assert float(tables.allreduce_us(floats(1000), 2)) == 9
    linked = tables_for(load_gpu("V100"), root=tmp_path).tables
    assert linked.measured_on("allreduce") == "A100-80"


def test_a_group_larger_than_a_bridge_joins_crosses_pcie(tmp_path: Path) -> None:
    """NVLink bridges join pairs of A40: two send like A100s, four over PCIe like L40S."""
    for name, us in (("a100-80", 3), ("l40s", 9)):
        write_all(tmp_path / name)
        write_allreduce(tmp_path / name, us)
    tables = tables_for(load_gpu("A40"), root=tmp_path).tables
    assert float(tables.allreduce_us(floats(1000), 2)) == 3
    assert float(tables.allreduce_us(floats(1000), 4)) == 9


def test_a_gpus_own_messages_answer_over_any_link(tmp_path: Path) -> None:
    """Measured on the GPU itself they are right whatever joins the group."""
    for name, us in (("h100-nvl", 7), ("rtx-pro-6000", 9)):
        write_all(tmp_path / name)
        write_allreduce(tmp_path / name, us)
    tables = tables_for(load_gpu("H100-NVL"), root=tmp_path).tables
    assert float(tables.allreduce_us(floats(1000), 4)) == 7


def test_without_a_link_of_the_same_kind_another_answers(tmp_path: Path) -> None:
    """Where nothing was measured over PCIe, a figure over NVLink is better than none."""
    write_all(tmp_path / "a100-80")
    write_allreduce(tmp_path / "a100-80", 3)
    tables = tables_for(load_gpu("A40"), root=tmp_path).tables
    assert float(tables.allreduce_us(floats(1000), 4)) == 3


@pytest.mark.parametrize(
    ("name", "first"), [("H100-PCIe", "RTX-PRO-6000"), ("A100-80-PCIe", "L40S"), ("A10", "L40S")]
)
def test_links_are_borrowed_of_the_same_generation(name: str, first: str) -> None:
    """PCIe 5 cards borrow from a PCIe 5 card, PCIe 4 cards from a PCIe 4 card."""
    assert donors_of(load_gpu(name), GPUS).links[0] == first


def test_a_hardware_files_constants_apply(tmp_path: Path) -> None:
    """Measured at the catalog's bandwidth; the user's GPU of that name has half of it."""
    write_all(tmp_path / "h100")
    halved = make_gpu("H100", hbm_gb_per_s=1675.0, bf16_tflops_dense=989.5)
    tables, borrowed_from = tables_for(halved, root=tmp_path)
    assert borrowed_from is None
    assert float(tables.gemm_us(floats(1), 1024, 1024)) == pytest.approx(20)


def test_without_any_tables_the_error_says_so(tmp_path: Path) -> None:
    """The GPUs that could have lent are named."""
    with pytest.raises(
        CatalogError, match=r"kernel tables of A10 or of .* \(L40S, .*\); got none"
    ):
        tables_for(load_gpu("A10"), root=tmp_path)


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_every_gpu_has_donors_of_the_catalog(gpu: GpuSpec) -> None:
    """Names in the list of donors are the catalog's own, and nobody borrows from itself."""
    donors = donors_of(gpu, GPUS)
    names = {each.name for each in GPUS}
    assert donors.kernels
    assert set(donors.kernels) | set(donors.links) <= names - {gpu.name}


def test_a_gpu_out_of_the_catalog_has_donors() -> None:
    """One described in a user's hardware file borrows from the usual ones."""
    assert donors_of(make_gpu(), GPUS).kernels[0] == "H100"


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_shipped_tables_serve_every_gpu(gpu: GpuSpec) -> None:
    """All operations answer, and a GPU with a folder of its own does not borrow."""
    root = shipped_bench_data()
    if not (root / "h100").is_dir():
        pytest.skip("no measured tables are shipped")
    tables, borrowed_from = tables_for(gpu)
    own = {same_gpu_key(folder.name, GPUS) for folder in root.iterdir() if folder.is_dir()}
    assert (borrowed_from is None) == (same_gpu_key(gpu.name, GPUS) in own)
    for operation in ("gemm", "prefill", "decode", "allreduce", "moe", "mla_prefill"):
        assert tables.measured_on(operation) is not None
