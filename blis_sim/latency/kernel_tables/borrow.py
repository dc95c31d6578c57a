"""Which tables serve a GPU: its own, or those of the nearest measured architecture."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from blis_sim.catalog.gpus import list_gpus, same_gpu_key
from blis_sim.catalog.locate import locate, shown_path
from blis_sim.catalog.paths import configs_dir, data_root, read_shipped_yaml
from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.layout import find_folder, gpus_in
from blis_sim.latency.kernel_tables.source import Source
from blis_sim.latency.kernel_tables.tables import KernelTables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blis_sim.catalog.gpus import GpuSpec


class TablesFor(NamedTuple):
    """The tables that serve a GPU."""

    tables: KernelTables
    borrowed_from: str | None
    """The GPU whose GEMM tables answer, when it is another."""


class Donors(NamedTuple):
    """GPUs whose tables serve another, the nearest first."""

    kernels: tuple[str, ...]
    links: tuple[str, ...]


def shipped_bench_data() -> Path:
    """Return the folder of the shipped tables."""
    return data_root() / "bench_data"


def donors_of(gpu: GpuSpec, gpus: Sequence[GpuSpec]) -> Donors:
    """Return the GPUs to borrow from, by ``configs/gpus/borrowing.yaml``.

    Raises
    ------
    CatalogError
        The shipped file is missing or damaged.
    """
    import yaml

    path = configs_dir() / "gpus" / "borrowing.yaml"
    key = same_gpu_key(gpu.name, gpus)
    try:
        document = read_shipped_yaml(path)
        listed = {same_gpu_key(name, gpus): names for name, names in document["kernels"].items()}
        kernels = (*listed.get(key, ()), *document["default"])
        linked = {same_gpu_key(g.name, gpus) for g in gpus if g.nvlink_gb_per_s is not None}
        by_gpu = {same_gpu_key(name, gpus): names for name, names in document["pcie"].items()}
        links = (*by_gpu.get(key, document["pcie"]["default"]), *kernels)
        if gpu.nvlink_gb_per_s is not None:
            with_links = [name for name in kernels if same_gpu_key(name, gpus) in linked]
            links = (*with_links, *document["nvlink"], *links)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as cause:
        raise CatalogError(f"{path} must be the shipped list of donors; got: {cause!r}") from cause
    return Donors(_others(kernels, key, gpus), _others(links, key, gpus))


def tables_for(gpu: GpuSpec, path: Path | None = None, *, root: Path | None = None) -> TablesFor:
    """Return the kernel tables that serve a GPU.

    Parameters
    ----------
    gpu : GpuSpec
        The GPU.
    path : Path, optional
        A user's folder, which answers first; see ``layout.find_folder``. A relative one that
        exists among the shipped data only means the shipped one.
    root : Path, optional
        Folder of the other tables; the shipped ones by default.

    Returns
    -------
    TablesFor
        What ``path`` lacks comes from the shipped tables of the GPU, then from the GPUs it
        borrows from.

    Raises
    ------
    CatalogError
        ``path`` has no GEMM and attention tables of this GPU, or no GPU has any tables.
    """
    if path is None and root is None:
        return _shipped_tables_for(gpu, shipped_bench_data())
    return _tables_for(gpu, path, shipped_bench_data() if root is None else root)


# Tables read on demand are kept with it: a study looks the same deployment up for each point.
@lru_cache(maxsize=32)
def _shipped_tables_for(gpu: GpuSpec, root: Path) -> TablesFor:
    return _tables_for(gpu, None, root)


def _tables_for(gpu: GpuSpec, path: Path | None, root: Path) -> TablesFor:
    gpus = list_gpus()
    own = [] if path is None else [source_in(locate(path).path, gpu, gpus)]
    shipped = open_source(root, gpu, gpus)
    own += [] if shipped is None else [shipped]
    donors = donors_of(gpu, gpus)
    opened: dict[str, Source | None] = {}

    def opened_once(name: str) -> Source | None:
        if name not in opened:
            opened[name] = open_source(root, next(g for g in gpus if g.name == name), gpus)
        return opened[name]

    sources = _Lenders(own, donors.kernels, opened_once)
    if not any(source.folder.is_usable for source in sources):
        raise CatalogError(
            f"{shown_path(root)} must hold kernel tables of {gpu.name} or of a GPU to borrow from "
            f"({', '.join(donors.kernels)}); got none"
        )
    tables = KernelTables(gpu, sources, _Lenders(own, donors.links, opened_once))
    measured_on = str(tables.measured_on("gemm"))
    is_own = same_gpu_key(measured_on, gpus) == same_gpu_key(gpu.name, gpus)
    return TablesFor(tables, None if is_own else measured_on)


class _Lenders:
    """A GPU's own sources, then those it borrows from, opened when first reached."""

    def __init__(
        self,
        own: Sequence[Source],
        donors: Iterable[str],
        opened: Callable[[str], Source | None],
    ) -> None:
        self._own = own
        self._donors = donors
        self._opened = opened

    def __iter__(self) -> Iterator[Source]:
        yield from self._own
        for name in self._donors:
            source = self._opened(name)
            if source is not None:
                yield source


def source_in(root: Path, gpu: GpuSpec, gpus: Sequence[GpuSpec] | None = None) -> Source:
    """Return the usable tables of a GPU in a folder.

    ``gpus`` is the catalog, when the caller has it at hand already.

    Raises
    ------
    CatalogError
        There are none; the message lists the GPUs the folder has.
    """
    gpus = list_gpus() if gpus is None else gpus
    if not root.is_dir():
        raise CatalogError(
            f"bench_data_path must be a folder of measured kernel tables; got {root}"
        )
    source = open_source(root, gpu, gpus)
    if source is None or not source.folder.is_usable:
        there = ", ".join(gpus_in(root))
        raise CatalogError(
            f"bench_data_path must hold GEMM, prefill and decode tables of {gpu.name}; got "
            f"{shown_path(root)}" + (f" with tables of {there}" if there else " without them")
        )
    return source


def open_source(root: Path, gpu: GpuSpec, gpus: Sequence[GpuSpec]) -> Source | None:
    """Return the tables of a GPU below ``root``.

    The GPU asked for may have other constants than the catalog's, from a user's hardware
    file: measured efficiencies are those over the catalog's.
    """
    folder = find_folder(root, gpu, gpus) if root.is_dir() else None
    if folder is None:
        return None
    key = same_gpu_key(folder.measured_on, gpus)
    return Source.of(folder, next((g for g in gpus if same_gpu_key(g.name, gpus) == key), gpu))


def _others(names: Iterable[str], key: str, gpus: Sequence[GpuSpec]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if same_gpu_key(name, gpus) != key))
