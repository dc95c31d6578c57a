"""Prices: dated offers per GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.catalog.gpus import canonical_gpu_name
from blis_sim.catalog.prices import gpu_price, load_prices
from blis_sim.errors import CatalogError

HEADER = "gpu,usd_per_gpu_hour,kind,source,as_of"


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "prices.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_shipped_prices_are_dated_and_of_known_gpus() -> None:
    """Every shipped offer names a GPU of the catalog, a source and a date."""
    prices = load_prices()
    assert len(prices) >= 15
    for price in prices:
        assert canonical_gpu_name(price.gpu) is not None
        assert price.source
        assert price.as_of.startswith("20")


def test_cheapest_and_median() -> None:
    """H100 has three offers: 2.95, 3.99 and 4.90 USD per hour."""
    found = gpu_price("h100-sxm", load_prices())
    assert found is not None
    assert [offer.usd_per_gpu_hour for offer in found.offers] == [2.95, 3.99, 4.90]
    assert found.cheapest.usd_per_gpu_hour == 2.95
    assert found.median_usd_per_gpu_hour == 3.99


def test_no_offer_is_none() -> None:
    """A GPU without a price has none, not 0."""
    assert gpu_price("H800", load_prices()) is None


def test_user_file_wins_gpu_by_gpu(tmp_path: Path) -> None:
    """Offers for a GPU named in the file replace the shipped ones; other GPUs keep theirs."""
    path = write(tmp_path, "H100-SXM,1.5,ours,contract,2026-03-01", "MyChip,0.7,,,2026")
    prices = load_prices(path)
    h100, mine = gpu_price("H100", prices), gpu_price("my-chip", prices)
    assert h100 is not None
    assert [offer.usd_per_gpu_hour for offer in h100.offers] == [1.5]
    assert h100.cheapest.as_of == "2026-03-01"
    assert mine is not None
    assert mine.median_usd_per_gpu_hour == 0.7
    assert gpu_price("L4", prices) == gpu_price("L4", load_prices())


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        (HEADER, "H100,free,,,2026", r":2:usd_per_gpu_hour must be a finite number > 0.*'free'"),
        (HEADER, "H100,0,,,2026", r":2:usd_per_gpu_hour must be a finite number > 0"),
        (HEADER, "H100,-1,,,2026", r":2:usd_per_gpu_hour must be a finite number > 0"),
        (HEADER, "H100,1,,,", r":2:as_of must be text that is not empty"),
        (HEADER, ",1,,,2026", r":2:gpu must be text that is not empty"),
        ("gpu,usd_per_hour,as_of", "H100,1,2026", r":1 must hold known columns; got 'usd_per_h"),
        ("gpu,as_of", "H100,2026", r":1 must hold the columns .*missing: usd_per_gpu_hour"),
    ],
)
def test_bad_files_name_line_and_column(
    tmp_path: Path, header: str, line: str, message: str
) -> None:
    """Every class of mistake is one error with file, line and column."""
    with pytest.raises(CatalogError, match=message):
        load_prices(write(tmp_path, line, header=header))
