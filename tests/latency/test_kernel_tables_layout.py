from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blis_sim.catalog.gpus import list_gpus, load_gpu
from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.arrays import floats
from blis_sim.latency.kernel_tables.borrow import source_in
from blis_sim.latency.kernel_tables.layout import Folder, find_folder, rank_heads
from blis_sim.latency.kernel_tables.shapes import ExpertsShape, HeadShape, WeightFormat
from blis_sim.latency.kernel_tables.tables import KernelTables
from tests.latency.kernel_tables_written import (
    tables_of,
    write_all,
    write_csv,
    write_decode,
    write_gemm,
)

H100 = load_gpu("H100")


def found(root: Path, gpu: str = "H100") -> Folder:
    folder = find_folder(root, load_gpu(gpu), list_gpus())
    assert folder is not None
    return folder


@pytest.mark.parametrize("name", ["h100", "H100", "H100-SXM", "nvidia_h100_80gb_hbm3"])
def test_a_gpus_folder_may_have_any_of_its_names(tmp_path: Path, name: str) -> None:
    """Case, aliases and the driver's long names are known, as everywhere."""
    write_all(tmp_path / name)
    folder = found(tmp_path)
    assert folder.path == tmp_path / name
    assert folder.is_usable
    assert find_folder(tmp_path, load_gpu("L40S"), list_gpus()) is None


def test_the_flat_layout_is_of_the_gpu_asked_for(tmp_path: Path) -> None:
    """Without a folder per GPU the tables are of whatever GPU is simulated."""
    folder = found(write_all(tmp_path / "mine"), "L40S")
    assert folder.is_usable
    assert folder.measured_on == "L40S"


def test_the_folder_of_another_gpu_stays_measured_there(tmp_path: Path) -> None:
    """Pointing at the folder of another GPU carries over its efficiencies, not its times."""
    write_all(tmp_path / "a100-80")
    assert found(tmp_path / "a100-80", "H100").measured_on == "A100-80"
    tables = KernelTables.load(tmp_path / "a100-80", H100)
    assert float(tables.gemm_us(floats(1), 1024, 1024)) == pytest.approx(10 * 2039 / 3350)


def test_what_a_folder_lacks_is_said(tmp_path: Path) -> None:
    """The error lists the GPUs that are there."""
    write_all(tmp_path / "a100-80")
    with pytest.raises(CatalogError, match=r"tables of H100; got .* with tables of a100-80"):
        source_in(tmp_path, H100)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match=r"tables of H100; got .*empty without them"):
        source_in(tmp_path / "empty", H100)
    with pytest.raises(CatalogError, match=r"must be a folder of measured kernel tables; got"):
        source_in(tmp_path / "nowhere", H100)


def test_whole_model_heads_become_those_of_a_rank(tmp_path: Path) -> None:
    """A file for TP 4 in the folder 32-8-128 was measured with 8 query and 2 KV heads."""
    write_all(tmp_path)
    rows = [(1, 1024, 11), (1, 4096, 22)]
    write_decode(tmp_path, rows, heads="32-8-128", suffix="bf16_tp4")
    write_decode(tmp_path, rows, heads="32-8-128", suffix="bf16_tp1")
    shapes = {file.shape for file in found(tmp_path).files if file.operation == "decode"}
    assert shapes == {(8, 2, 128), (32, 8, 128)}


def test_a_folder_named_for_the_rank_wins(tmp_path: Path) -> None:
    """Of two files for one shape the one that needs no conversion answers."""
    write_decode(tmp_path, [(1, 1000, 11), (1, 2000, 12)], heads="32-8-128", suffix="bf16_tp4")
    write_all(tmp_path)
    us = tables_of(tmp_path).decode_attention_us(HeadShape(8, 2, 128), 1, floats(1000))
    assert float(us) == 20


@pytest.mark.parametrize(
    ("heads", "tp", "expected"),
    [
        ((32, 8, 128), 2, (16, 4, 128)),
        ((32, 8, 128), 16, (2, 1, 128)),
        ((8, 8, 64), 1, (8, 8, 64)),
    ],
)
def test_heads_on_a_rank(heads: tuple[int, ...], tp: int, expected: tuple[int, ...]) -> None:
    """KV heads are replicated when there are fewer than GPUs."""
    assert rank_heads(heads, tp, Path("file.csv")) == expected


def test_tp_must_divide_the_heads(tmp_path: Path) -> None:
    """28 heads on 8 GPUs cannot have been measured."""
    write_all(tmp_path)
    write_decode(tmp_path, [(1, 10, 10)], heads="28-4-128", suffix="bf16_tp8")
    with pytest.raises(CatalogError, match=r"tp8\.csv: tp must divide the 28 heads .* got 8"):
        found(tmp_path)


def test_formats_are_read_off_the_names(tmp_path: Path) -> None:
    """Weights of a GEMM, queries and cache of attention, shape of experts, size of a group."""
    names = [
        "gemm_bench/gemm_fp8_block.csv",
        "mha_decode/8-2-128/mha_decode_bf16_kvfp8_tp1.csv",
        "mha_prefill/8-2-128/mha_prefill_fp16.csv",
        "mla_decode/16-512-64/mla_decode_bf16.csv",
        "mla_prefill/16-512-64/mla_prefill_bf16_kvfp8.csv",
        "moe/128-8-2048-768-ep4/moe_fp8.csv",
        "allreduce/allreduce_tp8.csv",
    ]
    for name in names:
        write_csv(tmp_path / name, "nothing", [])
    read = [(f.operation, f.shape, f.dtype, f.kv_dtype) for f in found(tmp_path).files]
    assert sorted(read) == [
        ("allreduce", (8,), "bf16", "bf16"),
        ("decode", (8, 2, 128), "bf16", "fp8"),
        ("gemm", (), "fp8_block", "fp8_block"),
        ("mla_decode", (16, 512, 64), "bf16", "bf16"),
        ("mla_prefill", (16, 192, 128), "bf16", "fp8"),
        ("moe", (128, 8, 2048, 768, 4), "fp8", "fp8"),
        ("prefill", (8, 2, 128), "fp16", "fp16"),
    ]


def test_files_that_say_nothing_are_listed(tmp_path: Path) -> None:
    """They are left out, and reported by the check."""
    write_all(tmp_path)
    odd = [
        write_csv(tmp_path / "gemm_bench" / "results.csv", "a", []),
        write_csv(tmp_path / "mha_decode" / "llama" / "mha_decode_bf16.csv", "a", []),
        write_csv(tmp_path / "mha_decode" / "8-2-128" / "gemm_bf16.csv", "a", []),
    ]
    assert set(found(tmp_path).unknown) == set(odd)


def write_by_operation(root: Path, gpu: str = "h20") -> Path:
    """Write the layout of InferSim, with its columns."""
    # 2 m n k / us = 148 TFLOP/s and mfu 0.5: the peak is 296, that of fp8.
    gemm = [(m, 1000, 1000, 2 * m / 148, 0.5) for m in (74, 148)]
    write_csv(root / "gemm" / gpu / "data.csv", "m,k,n,latency_us,mfu", gemm)
    write_csv(
        root / "mha" / "prefill" / gpu / "16-2-256.csv",
        "dtype,seq_len,latency_us,mfu",
        [("bf16", 1024, 98.705, 0.588), ("bf16", 4096, 1134.939, 0.818)],
    )
    write_csv(
        root / "mha" / "decode" / gpu / "16-2-256.csv",
        "dtype,kv_dtype,batch_size,kv_len,latency_us,mfu",
        [("bf16", "bf16", 1, 4096, 27.906, 0.016), ("bf16", "fp8", 1, 4096, 20.5, 0.022)],
    )
    write_csv(
        root / "mha" / "decode" / gpu / "32-8-128-tp2.csv",
        "dtype,kv_dtype,batch_size,kv_len,latency_us,mfu",
        [("bf16", "bf16", 1, 4096, 23.5, 0.01)],
    )
    experts = "num_experts,num_gpus,num_local_experts,topk,hidden_size,intermediate_size,"
    times = "tokens_per_expert,up_proj_us,up_mfu,down_proj_us,down_mfu"
    write_csv(
        root / "grouped_gemm" / "decode" / gpu / "data.csv",
        f"{experts}batch_size_per_gpu,{times}",
        [
            (96, 4, 24, 8, 2048, 1560, 16, 5, 97.464, 0.05, 51.624, 0.044),
            (96, 4, 24, 8, 2048, 1560, 1024, 341, 600, 0.7, 300, 0.65),
        ],
    )
    write_csv(
        root / "grouped_gemm" / "prefill" / gpu / "data.csv",
        f"{experts}seq_len_per_gpu,{times}",
        [
            (96, 4, 24, 8, 2048, 1560, 16, 5, 300, 0.05, 100, 0.044),
            (96, 4, 24, 8, 2048, 1560, 1024, 341, 524.547, 0.758, 287.183, 0.689),
        ],
    )
    return root


def test_infersim_names_expanded_keys_by_their_parts(tmp_path: Path) -> None:
    """128 + 64 wide keys; values are as wide as the part without rotation."""
    path = write_by_operation(tmp_path) / "mla" / "prefill" / "h20" / "16-128-64.csv"
    write_csv(path, "dtype,seq_len,latency_us,mfu", [("bf16", 1024, 50, 0.7)])
    (file,) = [f for f in found(tmp_path, "H20").files if f.operation == "mla_prefill"]
    assert file.shape == (16, 192, 128)


def test_infersim_tables_are_read(tmp_path: Path) -> None:
    """Operation first, GPU second; formats are in the rows, or follow from the MFU."""
    folder = found(write_by_operation(tmp_path), "H20")
    assert folder.is_usable
    read = {(f.operation, f.shape, f.dtype, f.kv_dtype) for f in folder.files}
    assert read == {
        ("gemm", (), "fp8", "fp8"),
        ("prefill", (16, 2, 256), "bf16", "bf16"),
        ("decode", (16, 2, 256), "bf16", "bf16"),
        ("decode", (16, 2, 256), "bf16", "fp8"),
        ("decode", (16, 4, 128), "bf16", "bf16"),
        ("moe", (96, 8, 2048, 1560, 4), "fp8", "fp8"),
    }


def test_infersim_times_answer(tmp_path: Path) -> None:
    """The figures of the files come back.

    Experts take both products, with the tokens of all GPUs, in the faster of both phases.
    """
    tables = KernelTables.load(write_by_operation(tmp_path), load_gpu("H20"))
    assert tables.notices == ()
    shape = HeadShape(16, 2, 256)
    assert float(tables.decode_attention_us(shape, 1, floats(4096))) == 27.906
    assert float(tables.prefill_attention_us(shape, floats(0), floats(4096))) == 1134.939
    assert float(tables.gemm_us(floats(148), 1000, 1000, "fp8")) == pytest.approx(2.0)
    experts = ExpertsShape(96, 8, 2048, 1560, 4)
    us = tables.moe_us(floats([64, 4096]), experts, WeightFormat("fp8"))
    np.testing.assert_allclose(us, [97.464 + 51.624, 524.547 + 287.183])


def test_a_bad_row_of_infersim_is_named(tmp_path: Path) -> None:
    """The same strictness as for our own files."""
    root = write_by_operation(tmp_path)
    path = root / "mha" / "decode" / "h20" / "16-2-256.csv"
    path.write_text(path.read_text() + "bf16,bf16,1,8192,-3,0.1\n")
    with pytest.raises(CatalogError, match=r"16-2-256\.csv:4:latency_us must be .*got '-3'"):
        found(root, "H20")


def test_a_gemm_table_alone_is_not_usable(tmp_path: Path) -> None:
    """A step needs attention too."""
    write_gemm(tmp_path, [(1, 10, 10, 5)])
    assert not found(tmp_path).is_usable
    with pytest.raises(CatalogError, match=r"must hold GEMM, prefill and decode tables"):
        KernelTables.load(tmp_path, H100)
