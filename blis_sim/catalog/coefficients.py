"""Trained coefficients of the blackbox model: one row per (model, GPU, TP, engine version)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from blis_sim.catalog.csv_table import CsvRow, read_csv
from blis_sim.catalog.gpus import list_gpus, same_gpu_key
from blis_sim.catalog.names import normalize_name, short_name
from blis_sim.catalog.paths import configs_dir
from blis_sim.errors import nearest

_ALPHA = {
    "alpha0_us": "us",
    "alpha1_us_per_in_tok": "us per prompt token",
    "alpha2_us_per_out_tok": "us per output token",
}
_BETA = {
    "beta0_us": "us",
    "beta1_us_per_prefill_tok": "us per prefill token",
    "beta2_us_per_decode_tok": "us per decode",
}
_IGNORED = ("order", "total_kv_blocks", "best_loss", "effective(first_match)")
"""Columns of published tables that say nothing about the step time."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Blackbox coefficients of one deployment.

    Attributes
    ----------
    model, gpu : str
        As written in the table.
    tp : int
        GPUs per instance.
    engine_version : str or None
        As written in the table; None when the file has no such column.
    alpha : tuple of float
        us; us per prompt token (both before the waiting queue); us per output token.
    beta : tuple of float
        us per step; us per prefill token; us per decode.
    source : str
        File and line.
    is_exact_version : bool
        Whether the row is of the version asked for; False also when none was asked for.
    """

    model: str
    gpu: str
    tp: int
    engine_version: str | None
    alpha: tuple[float, float, float]
    beta: tuple[float, float, float]
    source: str
    is_exact_version: bool = False

    @property
    def key(self) -> str:
        """The key in words, for messages."""
        version = "" if self.engine_version is None else f", {plain_version(self.engine_version)}"
        return f"({self.model}, {self.gpu}, TP {self.tp}{version})"


def plain_version(version: str) -> str:
    """Return a version without image name and ``v``: ``vllm/vllm-openai:v0.8.4`` -> ``0.8.4``."""
    return version.strip().rsplit(":", maxsplit=1)[-1].lower().removeprefix("v")


def load_coefficients(file: Path | None = None) -> tuple[Coefficients, ...]:
    """Return all rows of a coefficient table, in order, repeated keys included.

    Parameters
    ----------
    file : Path, optional
        CSV with the columns of configs/coefficients.csv (``vllm_version`` may be absent);
        the shipped table when not given.

    Raises
    ------
    CatalogError
        The file cannot be read, a column is missing or unknown, or a value is not a finite
        number >= 0; with path, line and column.
    """
    if file is None:
        return _read_shipped(configs_dir() / "coefficients.csv")
    return _read(file)


@lru_cache(maxsize=4)
def _read_shipped(path: Path) -> tuple[Coefficients, ...]:
    return _read(path)


def _read(path: Path) -> tuple[Coefficients, ...]:
    required = ("model", "gpu", "tp", *_ALPHA, *_BETA)
    return tuple(_from_row(row) for row in read_csv(path, required, ("vllm_version", *_IGNORED)))


def _from_row(row: CsvRow) -> Coefficients:
    a0, a1, a2 = (row.number(column, unit) for column, unit in _ALPHA.items())
    b0, b1, b2 = (row.number(column, unit) for column, unit in _BETA.items())
    return Coefficients(
        model=row.text("model"),
        gpu=row.text("gpu"),
        tp=row.count("tp"),
        engine_version=row.values.get("vllm_version") or None,
        alpha=(a0, a1, a2),
        beta=(b0, b1, b2),
        source=f"{row.path}:{row.line}",
    )


def find_coefficients(
    model: str, gpu: str, tp: int, *, version: str | None = None, file: Path | None = None
) -> Coefficients | None:
    """Return the coefficients of a deployment, None when the table has none.

    Of several rows with one key the first counts. A row of the version asked for is preferred;
    without one (or when none is asked for) the first row for (model, GPU, TP) is taken.

    Parameters
    ----------
    model : str
        Model name in any case, with or without the organisation.
    gpu : str
        GPU name; aliases are known.
    tp : int
        GPUs per instance.
    version : str, optional
        Engine version: ``0.8.4``, ``v0.8.4`` and ``vllm/vllm-openai:v0.8.4`` are equal.
    file : Path, optional
        The user's table, searched instead of the shipped one.

    Returns
    -------
    Coefficients or None
        With ``engine_version``, ``is_exact_version`` and ``source`` saying which row it is.

    Raises
    ------
    CatalogError
        The table is unusable.
    """
    gpus = list_gpus()
    gpu_key = same_gpu_key(gpu, gpus)
    rows = [
        row
        for row in load_coefficients(file)
        if row.tp == tp
        and is_same_model(model, row.model)
        and same_gpu_key(row.gpu, gpus) == gpu_key
    ]
    if version is not None:
        wanted = plain_version(version)
        for row in rows:
            if row.engine_version is not None and plain_version(row.engine_version) == wanted:
                return replace(row, is_exact_version=True)
    return rows[0] if rows else None


def is_same_model(one: str, other: str) -> bool:
    """Whether two names mean one model: case is ignored, and an organisation only one gives."""
    if "/" not in one or "/" not in other:
        one, other = short_name(one), short_name(other)
    return normalize_name(one) == normalize_name(other)


def nearest_coefficient_keys(
    model: str, gpu: str, tp: int, *, file: Path | None = None, count: int = 3
) -> list[str]:
    """Return the keys of the table nearest to a deployment that has none, best first.

    The nearest model comes first (the same one if the table has it), then the same GPU, then
    the nearest TP.

    Parameters
    ----------
    model, gpu, tp
        The deployment, as for `find_coefficients`.
    file : Path, optional
        The user's table.
    count : int
        How many at most.
    """
    gpus = list_gpus()
    gpu_key = same_gpu_key(gpu, gpus)
    rows = load_coefficients(file)
    names = list(dict.fromkeys(row.model for row in rows))
    same = [name for name in names if is_same_model(model, name)]
    order = same + [name for name in _similar_models(model, names) if name not in same]
    rank = {name: place for place, name in enumerate(order)}
    candidates = [row for row in rows if row.model in rank]
    candidates.sort(
        key=lambda row: (rank[row.model], same_gpu_key(row.gpu, gpus) != gpu_key, abs(row.tp - tp))
    )
    return list(dict.fromkeys(row.key for row in candidates))[:count]


def _similar_models(model: str, names: list[str]) -> list[str]:
    """Return names similar to a model's, compared without the organisation."""
    by_short: dict[str, str] = {}
    for name in names:
        by_short.setdefault(short_name(name).lower(), name)
    return [by_short[hit] for hit in nearest(short_name(model), by_short)]
