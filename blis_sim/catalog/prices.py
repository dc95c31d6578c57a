"""GPU prices: dated snapshots, one row per offer."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from blis_sim.catalog.csv_table import CsvRow, read_csv
from blis_sim.catalog.gpus import list_gpus, same_gpu_key
from blis_sim.catalog.paths import configs_dir


@dataclass(frozen=True, slots=True)
class Price:
    """One offer.

    Attributes
    ----------
    gpu : str
        GPU name as written in the file.
    usd_per_gpu_hour : float
        Price of one GPU for one hour, USD, > 0.
    kind : str
        On-demand, generic, … as the source says.
    source : str
        Who asked this price.
    as_of : str
        Date of the snapshot: a year, a month or a day.
    """

    gpu: str
    usd_per_gpu_hour: float
    kind: str
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class GpuPrice:
    """What one GPU costs, over all offers known.

    Attributes
    ----------
    gpu : str
        GPU name as asked for.
    cheapest : Price
        The cheapest offer; the first of several.
    median_usd_per_gpu_hour : float
        Median over the offers, USD.
    offers : tuple of Price
        All offers, cheapest first.
    """

    gpu: str
    cheapest: Price
    median_usd_per_gpu_hour: float
    offers: tuple[Price, ...]


def load_prices(file: Path | None = None) -> tuple[Price, ...]:
    """Return the offers of a price file, in order.

    Parameters
    ----------
    file : Path, optional
        CSV with the columns ``gpu, usd_per_gpu_hour, as_of`` and, optional, ``kind, source``;
        the shipped snapshot when not given. It wins GPU by GPU: offers of GPUs that the file
        does not name are taken from the shipped snapshot.

    Raises
    ------
    CatalogError
        The file cannot be read, a column is missing or unknown, or a price is not > 0; with
        path, line and column.
    """
    shipped = _read(configs_dir() / "prices.csv")
    if file is None:
        return shipped
    given = _read(file)
    gpus = list_gpus()
    named = {same_gpu_key(price.gpu, gpus) for price in given}
    return given + tuple(p for p in shipped if same_gpu_key(p.gpu, gpus) not in named)


def unknown_gpus(file: Path, others: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the GPUs of a price file that are neither in the catalog nor among others.

    Raises
    ------
    CatalogError
        As `load_prices` does.
    """
    gpus = list_gpus()
    keys = {same_gpu_key(name, gpus) for name in (*(gpu.name for gpu in gpus), *others)}
    named = dict.fromkeys(price.gpu for price in _read(file))
    return tuple(name for name in named if same_gpu_key(name, gpus) not in keys)


def _read(path: Path) -> tuple[Price, ...]:
    rows = read_csv(path, ("gpu", "usd_per_gpu_hour", "as_of"), ("kind", "source"))
    return tuple(_from_row(row) for row in rows)


def _from_row(row: CsvRow) -> Price:
    return Price(
        gpu=row.text("gpu"),
        usd_per_gpu_hour=row.number("usd_per_gpu_hour", "USD per GPU and hour", positive=True),
        kind=row.values.get("kind", ""),
        source=row.values.get("source", ""),
        as_of=row.text("as_of"),
    )


def gpu_price(gpu: str, prices: tuple[Price, ...]) -> GpuPrice | None:
    """Return what a GPU costs, None when there is no offer for it.

    Parameters
    ----------
    gpu : str
        GPU name; aliases are known.
    prices : tuple of Price
        Offers, from `load_prices`.
    """
    gpus = list_gpus()
    key = same_gpu_key(gpu, gpus)
    offers = sorted(
        (price for price in prices if same_gpu_key(price.gpu, gpus) == key),
        key=lambda price: price.usd_per_gpu_hour,
    )
    if not offers:
        return None
    median = statistics.median(offer.usd_per_gpu_hour for offer in offers)
    return GpuPrice(gpu, offers[0], median, tuple(offers))
