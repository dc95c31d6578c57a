"""The package's own formats: they hold everything."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from blis_sim.atomic import atomic_write
from blis_sim.errors import MissingExtraError
from blis_sim.units import US_PER_S
from blis_sim.workload.block_hashes import DEFAULT_HASH_BLOCK_TOKENS
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.writing.base import TextWriter, TraceWriter, csv_cell, seconds_text
from blis_sim.workload.writing.survey import Survey, count_of

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 16_384


class OwnCsvWriter(TextWriter):
    """The package's own CSV: the columns that are used, ``arrival_us`` in microseconds."""

    name = "csv"
    title = "blis_sim CSV"
    endings = (".csv", ".csv.gz")

    def losses(self, survey: Survey) -> list[str]:
        """Return what is not kept: hardly anything."""
        return _losses(survey)

    def lines(self, requests: Iterable[RequestSpec], survey: Survey) -> Iterator[str]:
        """Yield the header and the rows."""
        columns = _columns(survey)
        yield ",".join(column.name for column in columns) + "\n"
        for spec in requests:
            yield ",".join([_text(column.value(spec), column.kind) for column in columns]) + "\n"


class OwnParquetWriter(TraceWriter):
    """The package's own Parquet: the columns of its CSV with their types.

    Needs the ``parquet`` extra.
    """

    name = "parquet"
    title = "blis_sim Parquet"
    endings = (".parquet",)

    def losses(self, survey: Survey) -> list[str]:
        """Return what is not kept: hardly anything."""
        return _losses(survey)

    def check(self, survey: Survey) -> None:
        """Raise MissingExtraError without pyarrow."""
        if importlib.util.find_spec("pyarrow") is None:
            raise _no_pyarrow()

    def write(self, requests: Iterable[RequestSpec], survey: Survey, path: Path) -> None:
        """Write the requests, some thousand at a time."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise _no_pyarrow() from error
        columns = _columns(survey)
        schema = pa.schema([(column.name, _arrow_type(column.kind)) for column in columns])
        walk = iter(requests)
        with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            while rows := list(itertools.islice(walk, _BATCH_ROWS)):
                cells = {
                    column.name: [_arrow_value(column.value(spec), column.kind) for spec in rows]
                    for column in columns
                }
                writer.write_batch(pa.record_batch(cells, schema=schema))


def _losses(survey: Survey) -> list[str]:
    losses = survey.not_kept_labels()
    sizes = list(survey.hash_sizes)
    for size in sizes[1:]:
        number = count_of(survey.hash_sizes[size])
        losses.append(
            f"block_hashes of {number} with {size} tokens per hash are not kept beside those "
            f"with {sizes[0]}"
        )
    return losses


class _Column(NamedTuple):
    name: str
    kind: Literal["number", "time", "label", "hashes"]
    value: Callable[[RequestSpec], Any]
    """A whole number (times in microseconds), a text, a tuple of hashes, or None = empty."""


def _columns(survey: Survey) -> list[_Column]:
    """Return the columns that are used."""
    used = survey.used
    has_groups = used["prefix_group"] > survey.num_empty_groups
    has_sessions = used["session_id"] > 0
    size = next(iter(survey.hash_sizes), None)

    def plain(name: str) -> Callable[[RequestSpec], Any]:
        return attrgetter(name)

    columns = (
        (True, _Column("arrival_us", "number", plain("arrival_us"))),
        (True, _Column("prompt_tokens", "number", plain("prompt_tokens"))),
        (True, _Column("output_tokens", "number", plain("output_tokens"))),
        (
            used["max_output_tokens"],
            _Column("max_output_tokens", "number", plain("max_output_tokens")),
        ),
        (has_groups, _Column("prefix_group", "label", _group)),
        (has_groups, _Column("prefix_tokens", "number", _prefix_tokens)),
        (has_sessions, _Column("session_id", "label", plain("session_id"))),
        (has_sessions and used["round"], _Column("round", "number", _round)),
        (used["slo_class"], _Column("slo_class", "label", plain("slo_class"))),
        (used["tenant"], _Column("tenant", "label", plain("tenant"))),
        (used["priority"], _Column("priority", "number", plain("priority"))),
        (used["timeout_us"], _Column("timeout_s", "time", plain("timeout_us"))),
        (used["abort_us"], _Column("abort_s", "time", plain("abort_us"))),
        (used["prompt_id"], _Column("prompt_id", "label", plain("prompt_id"))),
        (size, _Column("block_hashes", "hashes", lambda spec: _hashes(spec, size))),
        (
            size not in {None, DEFAULT_HASH_BLOCK_TOKENS},
            _Column("hash_block_tokens", "number", lambda spec: _hashes(spec, size) and size),
        ),
    )
    return [column for is_used, column in columns if is_used]


def _group(spec: RequestSpec) -> str | None:
    return spec.prefix_group if spec.prefix_tokens else None


def _prefix_tokens(spec: RequestSpec) -> int | None:
    return spec.prefix_tokens if _group(spec) is not None else None


def _round(spec: RequestSpec) -> int | None:
    return None if spec.session_id is None else spec.round


def _hashes(spec: RequestSpec, size: int | None) -> tuple[int, ...] | None:
    return spec.block_hashes if spec.hash_block_tokens == size else None


def _text(value: Any, kind: str) -> str:
    """Return the cell of a CSV file."""
    if value is None:
        return ""
    if kind == "label":
        return csv_cell(value.strip())
    if kind == "time":
        return seconds_text(value)
    return " ".join(map(str, value)) if kind == "hashes" else str(value)


def _arrow_type(kind: str) -> pa.DataType:
    import pyarrow as pa

    types = {"time": pa.float64(), "label": pa.string(), "hashes": pa.list_(pa.int64())}
    return types.get(kind, pa.int64())


def _arrow_value(value: Any, kind: str) -> Any:
    # Up to 1e9 s a float holds every microsecond.
    return value / US_PER_S if kind == "time" and value is not None else value


def _no_pyarrow() -> MissingExtraError:
    return MissingExtraError("pyarrow", "parquet", "writing Parquet traces")
