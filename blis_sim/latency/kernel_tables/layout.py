"""Where the tables of a GPU lie in a folder of measurements.

Three layouts are understood. Ours (and that of BLIS) has a folder per GPU::

    <gpu>/gemm_bench/gemm_<dtype>.csv
    <gpu>/mha_prefill/<H>-<K>-<h>/mha_prefill_<dtype>[_kv<dtype>].csv
    <gpu>/mha_decode/<H>-<K>-<h>/mha_decode_<dtype>[_kv<dtype>][_tp<tp>].csv
    <gpu>/mla_prefill/<H>-<latent>-<rope>/mla_prefill_<dtype>[_kv<dtype>].csv
    <gpu>/mla_decode/<H>-<latent>-<rope>/mla_decode_<dtype>[_kv<dtype>][_tp<tp>].csv
    <gpu>/allreduce/allreduce_tp<tp>.csv
    <gpu>/moe/<E>-<k>-<d>-<F>[-ep<ep>]/moe_<dtype>.csv

The flat layout is the same without ``<gpu>/``. InferSim and early BLIS put the operation
first, see ``by_operation``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.catalog.gpus import same_gpu_key
from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.points import Columns, Points, read_points
from blis_sim.latency.kernel_tables.precision import normalised_dtype

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec

_FOLDERS = {
    "gemm_bench": "gemm",
    "mha_prefill": "prefill",
    "mha_decode": "decode",
    "mla_prefill": "mla_prefill",
    "mla_decode": "mla_decode",
    "allreduce": "allreduce",
    "moe": "moe",
}
_FILE_NAME = re.compile(
    r"(?P<stem>gemm|mha_prefill|mha_decode|mla_prefill|mla_decode|allreduce|moe)"
    r"(?:_(?!tp\d|kv)(?P<dtype>[a-z0-9]+(?:_(?!tp\d|kv)[a-z0-9]+)*))?"
    r"(?:_kv(?P<kv>[a-z0-9_]+?))?(?:_tp(?P<tp>[1-9]\d*))?\.csv"
)
_HEADS = re.compile(r"\d+-\d+-\d+")
_NOPE = _VALUE = 128
_EXPERTS = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)(?:-ep(\d+))?")


def operations() -> tuple[str, ...]:
    """Return the kinds of tables there are."""
    return tuple(_FOLDERS.values())


def columns_of(operation: str) -> Columns:
    """Return what the files of an operation hold."""
    match operation:
        case "gemm":
            return Columns(("m", "k", "n"))
        case "prefill" | "mla_prefill":
            return Columns(("seq_len",), {"batch": 1, "kv_len": 0})
        case "decode" | "mla_decode":
            return Columns(("batch", "kv_len"))
        case "allreduce":
            return Columns(("bytes",), has_mfu=False)
    return Columns(("num_tokens",))


@dataclass(frozen=True, slots=True, eq=False)
class TableFile:
    """One table in a file.

    Attributes
    ----------
    operation : str
        One of ``operations()``.
    shape : tuple of int
        Of the kernel on one GPU: heads, experts, or (tp,) of an all-reduce; empty for GEMMs,
        whose shapes are in the file.
    dtype, kv_dtype : str
        Formats measured; of what is multiplied and of the KV cache.
    path : Path
        The file.
    points : Points or None
        Its points, when they had to be read to know what it is.
    named_heads_tp : int
        TP degree its folder's heads were divided by to get ``shape``.
    """

    operation: str
    shape: tuple[int, ...]
    dtype: str
    kv_dtype: str
    path: Path
    points: Points | None = None
    named_heads_tp: int = 1

    def read(self) -> Points:
        """Return its points.

        Raises
        ------
        CatalogError
            The file is malformed.
        """
        if self.points is not None:
            return self.points
        return read_points(self.path, columns_of(self.operation))


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """The tables of one GPU.

    Attributes
    ----------
    path : Path
        The folder they were found under.
    files : tuple of TableFile
        In a fixed order: operation, shape, formats, path.
    unknown : tuple of Path
        CSV files whose place or name says nothing.
    measured_on : str
        The GPU, by its name in the catalog when it is there.
    """

    path: Path
    files: tuple[TableFile, ...]
    unknown: tuple[Path, ...]
    measured_on: str

    def has(self, operation: str) -> bool:
        """Whether there is a table of an operation."""
        return any(file.operation == operation for file in self.files)

    @property
    def is_usable(self) -> bool:
        """Whether steps can be computed: GEMMs, and prefill and decode attention."""
        return self.has("gemm") and (
            (self.has("prefill") and self.has("decode"))
            or (self.has("mla_prefill") and self.has("mla_decode"))
        )


def find_folder(root: Path, gpu: GpuSpec, gpus: Sequence[GpuSpec]) -> Folder | None:
    """Return the tables of a GPU below ``root``, None when there are none.

    Parameters
    ----------
    root : Path
        Holds a folder with a name of the GPU in any case, or is such a folder itself, or is
        laid out by operation.
    gpu : GpuSpec
        The GPU. A flat ``root`` whose own name is another GPU's is taken as measured there.
    gpus : sequence of GpuSpec
        The catalog.

    Raises
    ------
    CatalogError
        ``root`` is no folder, or a file's name contradicts its folder's.
    """
    from blis_sim.latency.kernel_tables.by_operation import read_by_operation

    if not root.is_dir():
        raise CatalogError(
            f"bench_data_path must be a folder of measured kernel tables; got {root}"
        )
    key = same_gpu_key(gpu.name, gpus)
    subfolders = _subfolders(root)
    for entry in subfolders:
        if entry.name.lower() not in _FOLDERS and same_gpu_key(entry.name, gpus) == key:
            found = read_folder(entry, gpu.name)
            if found.files:
                return found
    if is_flat(root):
        return read_folder(root, named_gpu(root, gpus) or gpu.name)
    return read_by_operation(root, gpu, gpus)


def is_flat(root: Path) -> bool:
    """Whether a folder itself holds the tables of one GPU."""
    return any(entry.name.lower() in _FOLDERS for entry in _subfolders(root))


def named_gpu(folder: Path, gpus: Sequence[GpuSpec]) -> str | None:
    """Return the GPU a folder's own name is one of, None when it is none's."""
    key = same_gpu_key(folder.resolve().name, gpus)
    return next((gpu.name for gpu in gpus if same_gpu_key(gpu.name, gpus) == key), None)


def gpus_in(root: Path) -> tuple[str, ...]:
    """Return the names of the folders below ``root`` that hold tables."""
    return tuple(
        sorted(
            entry.name
            for entry in _subfolders(root)
            if entry.name.lower() not in _FOLDERS and is_flat(entry)
        )
    )


def read_folder(path: Path, measured_on: str) -> Folder:
    """Return what the folder of one GPU holds; its files are not read.

    Parameters
    ----------
    path : Path
        Holds ``gemm_bench``, ...
    measured_on : str
        The GPU.

    Raises
    ------
    CatalogError
        A file's tensor-parallel degree does not divide the heads of its folder.
    """
    files: list[TableFile] = []
    unknown: list[Path] = []
    for folder in _subfolders(path):
        operation = _FOLDERS.get(folder.name.lower())
        if operation is None:
            continue
        for file in _csv_files(folder):
            table = _table_file(operation, folder, file)
            if table is None:
                unknown.append(file)
            else:
                files.append(table)
    files.sort(key=_order)
    return Folder(path, tuple(files), tuple(sorted(unknown)), measured_on)


def rank_heads(shape: tuple[int, ...], tp: int, where: Path) -> tuple[int, ...]:
    """Return the heads on one GPU of whole-model heads; KV heads are replicated when few.

    Raises
    ------
    CatalogError
        ``tp`` does not divide the heads.
    """
    heads, kv_heads, *rest = shape
    if heads % tp or (kv_heads % tp and tp % kv_heads):
        raise CatalogError(
            f"{where}: tp must divide the {heads} heads and {kv_heads} KV heads of the folder; "
            f"got {tp}"
        )
    return (heads // tp, max(1, kv_heads // tp), *rest)


def _order(file: TableFile) -> tuple[str, tuple[int, ...], str, str, int, str]:
    # Of two files for one shape the one whose folder names it directly comes first.
    path = str(file.path)
    return file.operation, file.shape, file.dtype, file.kv_dtype, file.named_heads_tp, path


def _table_file(operation: str, folder: Path, path: Path) -> TableFile | None:
    match = _FILE_NAME.fullmatch(path.name.lower())
    if match is None or match["stem"] != folder.name.lower().removesuffix("_bench"):
        return None
    tp = int(match["tp"] or 1)
    dtype = normalised_dtype(match["dtype"] or "bf16")
    kv_dtype = normalised_dtype(match["kv"] or dtype)
    shape: tuple[int, ...]
    if operation in {"gemm", "allreduce"}:
        shape = (tp,) if operation == "allreduce" else ()
        is_placed = path.parent == folder
        return TableFile(operation, shape, dtype, kv_dtype, path) if is_placed else None
    name = path.parent.name.lower()
    if operation == "moe":
        experts = _EXPERTS.fullmatch(name)
        if experts is None:
            return None
        shape = tuple(int(number or 1) for number in experts.groups())
        return TableFile(operation, shape, dtype, kv_dtype, path)
    if _HEADS.fullmatch(name) is None:
        return None
    named = tuple(map(int, name.split("-")))
    is_latent = operation.startswith("mla")
    if is_latent:
        heads, latent, rope = named
        heads = rank_heads((heads, heads), tp, path)[0]
        # Prefill folders do not name the widths of expanded heads: they are DeepSeek's.
        is_prefill = operation == "mla_prefill"
        shape = (heads, _NOPE + rope, _VALUE) if is_prefill else (heads, latent, rope)
    else:
        shape = rank_heads(named, tp, path)
    return TableFile(operation, shape, dtype, kv_dtype, path, named_heads_tp=tp)


def _subfolders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def _csv_files(folder: Path) -> Iterator[Path]:
    """Yield the CSV files of a folder and of its subfolders, one level deep."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir():
            with os.scandir(entry.path) as inner:
                names = sorted(e.path for e in inner if e.name.lower().endswith(".csv"))
            yield from map(Path, names)
        elif entry.name.lower().endswith(".csv"):
            yield Path(entry.path)
