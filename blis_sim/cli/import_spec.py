"""``blis workload import``: a load of another program as a workload spec of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from blis_sim.cli.common import note, one_line
from blis_sim.cli.values import duration_s
from blis_sim.errors import ConfigError

HELP = "Turn a load of BLIS, inference-perf or ServeGen into a workload spec."


def import_spec(
    *,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="YAML file of BLIS (--workload-spec) or inference-perf, or a ServeGen folder.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="YAML file to write.")],
    kind: Annotated[
        str,
        typer.Option(
            "--from", metavar="KIND", help="blis, inference-perf or servegen (recognised)."
        ),
    ] = "",
    start: Annotated[
        str,
        typer.Option("--start", metavar="TIME", help="ServeGen: begin of the part to take (0s)."),
    ] = "",
    duration: Annotated[
        str,
        typer.Option(
            "--duration", metavar="TIME", help="ServeGen: length of the part to take: 1h, 30m."
        ),
    ] = "",
    max_clients: Annotated[
        int | None,
        typer.Option(
            "--max-clients", metavar="N", help="ServeGen: only the clients with most requests."
        ),
    ] = None,
) -> None:
    """Write the spec; what changed its meaning goes to stderr."""
    from blis_sim.workload.importing import (
        KINDS,
        import_servegen,
        is_servegen,
        read_foreign,
    )

    check_out(out, [source])
    if kind == "servegen" or (not kind and is_servegen(source)):
        imported = import_servegen(
            source,
            start_s=duration_s(start, "--start") if start else 0.0,
            duration_s=duration_s(duration, "--duration") if duration else None,
            max_clients=max_clients,
        )
    else:
        flags = {"--start": start, "--duration": duration, "--max-clients": max_clients}
        for flag, value in flags.items():
            if value:
                raise ConfigError(f"{flag} must be used with a ServeGen folder; got {source}")
        found = read_foreign(source, kind or None)
        if found is None:
            raise ConfigError(
                f"{source} must be a load of BLIS, inference-perf or ServeGen; it looks like "
                f"none of them; say which with --from {'|'.join(KINDS)}"
            )
        imported = found
    write_spec(imported.settings, out, imported.title, imported.notices)


def write_spec(
    settings: Mapping[str, Any], out: Path, title: str, notices: Iterable[str] = ()
) -> None:
    """Write a workload spec and print the notices.

    Parameters
    ----------
    settings : mapping
        Plain values that `WorkloadSettings` accepts; paths start from the current folder.
    out : Path
        The YAML file; long tables of lengths go to a folder beside it.
    title : str
        Where the load comes from, for the comment at the top.
    notices : iterable of str
        What the user should know; one line each on stderr.
    """
    import yaml

    from blis_sim.atomic import atomic_write
    from blis_sim.workload.paths_in_settings import move_long_lengths, relative_paths

    settings, written = move_long_lengths(relative_paths(settings, out.parent), out)
    body = yaml.safe_dump(
        dict(settings), sort_keys=False, default_flow_style=None, width=99, allow_unicode=True
    )
    with atomic_write(out) as temporary:
        temporary.write_text(f"# From: {one_line(title)}\n{body}", encoding="utf-8")
    for notice in notices:
        note(notice)
    if written:
        note(f"{len(written)} tables of lengths are in {written[0].parent}, which {out} names")


def check_out(out: Path, sources: Iterable[Path]) -> None:
    """Raise when ``out`` cannot be written or is one of the files that are read."""
    from blis_sim.atomic import check_output_path

    check_output_path(out, "--out")
    for source in sources:
        if out.exists() and source.exists() and out.samefile(source):
            raise ConfigError(f"--out must be another file than {source}, which is read")
