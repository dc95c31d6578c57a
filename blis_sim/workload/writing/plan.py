"""From a stream of requests and a file name to a trace file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from blis_sim.errors import ConfigError, unknown_name
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.writing.base import TraceWriter
from blis_sim.workload.writing.blis_csv import BlisCsvWriter
from blis_sim.workload.writing.blis_trace_v2 import BlisTraceV2Writer
from blis_sim.workload.writing.lengths_csv import AzureWriter, BurstGptWriter
from blis_sim.workload.writing.mooncake import MooncakeWriter
from blis_sim.workload.writing.own import OwnCsvWriter, OwnParquetWriter
from blis_sim.workload.writing.survey import Survey, survey_requests

_MEASURED = ("vllm", "guidellm", "aiperf")


def trace_writers() -> tuple[TraceWriter, ...]:
    """Return the formats that can be written."""
    return (
        OwnCsvWriter(),
        OwnParquetWriter(),
        AzureWriter(),
        BurstGptWriter(),
        MooncakeWriter(),
        BlisCsvWriter(),
        BlisTraceV2Writer(),
    )


def choose_writer(path: Path, format_name: str | None = None) -> TraceWriter:
    """Return the writer of a format, or the one that the ending of the file names.

    Raises
    ------
    ConfigError
        The format is unknown or cannot be written, or the ending says nothing.
    """
    writers = trace_writers()
    names = [writer.name for writer in writers]
    if format_name is None:
        lower = path.name.lower()
        for writer in writers:
            if lower.endswith(writer.endings):
                return writer
        endings = ", ".join(ending for writer in writers for ending in writer.endings)
        raise ConfigError(
            f"a trace file must end in {endings}, or its format be given "
            f"({', '.join(names)}); got {path}"
        )
    if format_name in _MEASURED:
        raise ConfigError(
            f"trace format must be one of {', '.join(names)} to be written; got {format_name}, "
            "which holds what a benchmark measured"
        )
    if format_name == "sharegpt":
        raise ConfigError(
            f"trace format must be one of {', '.join(names)} to be written; got sharegpt, which "
            "holds texts"
        )
    if format_name not in names:
        raise ConfigError(unknown_name("trace format", format_name, names))
    return next(writer for writer in writers if writer.name == format_name)


@dataclass(frozen=True, slots=True)
class TracePlan:
    """A trace file about to be written.

    Attributes
    ----------
    requests : iterable of RequestSpec
        The stream.
    survey : Survey
        What it uses.
    writer : TraceWriter
        The format.
    path : pathlib.Path
        The file named by the user.
    """

    requests: Iterable[RequestSpec]
    survey: Survey
    writer: TraceWriter
    path: Path

    @property
    def losses(self) -> list[str]:
        """What the file will not hold, one sentence each; empty = nothing is lost."""
        return self.writer.all_losses(self.survey)

    @property
    def remarks(self) -> list[str]:
        """What a user should know beside the losses."""
        return self.writer.remarks(self.survey)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that will be written, the one named by the user first."""
        return self.writer.files(self.path)

    def write(self) -> None:
        """Write the files, whole or not at all; existing ones are replaced.

        Raises
        ------
        ConfigError
            The file system refused to write.
        """
        self.writer.write(self.requests, self.survey, self.path)


def plan_trace(
    requests: Iterable[RequestSpec], path: str | Path, format_name: str | None = None
) -> TracePlan:
    """Look at a stream and say how it will be written, and what of it cannot be.

    The stream is walked here and again to be written; one request at a time is in memory.

    Parameters
    ----------
    requests : iterable of RequestSpec
        In order of ``(arrival_us, request_id)``, such as a Workload; walked twice, so no
        iterator.
    path : str or Path
        The file; text is compressed where it ends in ``.gz``.
    format_name : str, optional
        Name of a format; by the ending of the file when absent.

    Raises
    ------
    ConfigError
        The format is unknown or cannot hold any of the stream, or there is no request.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    TypeError
        ``requests`` can be walked only once.
    """
    if iter(requests) is requests:
        raise TypeError("requests must be walkable twice, such as a Workload or a list")
    path = Path(path)
    writer = choose_writer(path, format_name)
    writer.files(path)
    survey = survey_requests(requests)
    writer.check(survey)
    return TracePlan(requests, survey, writer, path)
