"""Reading a trace file in one of the known formats.

A format is a small class with a name, a way to recognise a file by its beginning, and
``read`` (:class:`~blis_sim.workload.columns.TraceFormat`). To add one, write the class and
name it in ``trace_formats``.
"""

from __future__ import annotations

from pathlib import Path

from blis_sim.errors import ConfigError, TraceError, unknown_name
from blis_sim.workload.columns import ReadOptions, TraceColumns, TraceFormat
from blis_sim.workload.formats.aiperf import AiPerfJsonl
from blis_sim.workload.formats.azure import AzureCsv
from blis_sim.workload.formats.blis_csv import BlisCsv
from blis_sim.workload.formats.blis_trace_v2 import BlisTraceV2
from blis_sim.workload.formats.burstgpt import BurstGptCsv
from blis_sim.workload.formats.guidellm import GuideLlmJson
from blis_sim.workload.formats.mooncake import MooncakeJsonl
from blis_sim.workload.formats.own_parquet import OwnParquet
from blis_sim.workload.formats.sharegpt import ShareGptJson
from blis_sim.workload.formats.vllm_bench import VllmBenchJson
from blis_sim.workload.own_csv import OwnCsv
from blis_sim.workload.trace_sample import look_at

AUTO = "auto"


def trace_formats() -> tuple[TraceFormat, ...]:
    """Return the formats in the order in which a file is shown to them."""
    return (
        AzureCsv(),
        MooncakeJsonl(),
        BurstGptCsv(),
        ShareGptJson(),
        VllmBenchJson(),
        GuideLlmJson(),
        AiPerfJsonl(),
        BlisCsv(),
        BlisTraceV2(),
        OwnCsv(),
        OwnParquet(),
    )


def read_trace(
    path: Path,
    format_name: str = AUTO,
    options: ReadOptions | None = None,
    where: str = "workload",
) -> tuple[TraceColumns, TraceFormat]:
    """Read a trace file.

    Parameters
    ----------
    path : pathlib.Path
        The file; those of text formats may be gzip.
    format_name : str
        Name of a format, or ``auto``: the first that recognises the beginning of the file.
    options : ReadOptions, optional
        How to read it; strictly, with the formats' defaults, when absent.
    where : str
        Name of the settings in messages, e.g. ``workload.clients[2]``.

    Returns
    -------
    columns : TraceColumns
        All rows, in file order.
    format : TraceFormat
        The format it was read as.

    Raises
    ------
    TraceError
        If the file cannot be read, is of no known format, or a row is malformed; names the
        line and the column.
    ConfigError
        If ``tokens_per_word`` is given for a format without texts.
    MissingExtraError
        If reading the format needs a package that is not installed.
    """
    formats = trace_formats()
    names = [known.name for known in formats]
    if format_name == AUTO:
        sample = look_at(path)
        chosen = next((known for known in formats if known.recognises(sample)), None)
        if chosen is None:
            own = (
                "; data of your own: a CSV file with commas and a header that has arrival_s, "
                "prompt_tokens, output_tokens"
                if sample.kind == "csv"
                else ""
            )
            raise TraceError(
                f"{path}: trace must be in a known format ({', '.join(names)}); got {sample}; if "
                f"it is in one of them, name it with --trace-format{own}"
            )
    elif format_name in names:
        chosen = formats[names.index(format_name)]
    else:
        raise TraceError(unknown_name("trace format", format_name, [AUTO, *names]))
    options = options or ReadOptions()
    if options.tokens_per_word is not None and not isinstance(chosen, ShareGptJson):
        raise ConfigError(
            f"{where}.tokens_per_word must not be set for {path}, which holds lengths and no "
            f"texts ({chosen.title}); got {options.tokens_per_word:g}; leave it out"
        )
    return chosen.read(path, options), chosen
