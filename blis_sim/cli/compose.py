"""``blis compose``: several loads at the same time, as one workload spec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blis_sim.cli.import_spec import check_out, write_spec
from blis_sim.errors import ConfigError

HELP = "Put several loads into one workload spec, all at the same time."


def compose(
    *,
    specs: Annotated[
        list[Path],
        typer.Argument(
            metavar="SPEC",
            help="Two or more: workload specs, scenarios, loads of BLIS or inference-perf, "
            "ServeGen folders.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="YAML file to write.")],
    scale: Annotated[
        list[str] | None,
        typer.Option(
            "--scale",
            metavar="NAME=FACTOR",
            help="Multiply the rates of one load; may be given several times.",
        ),
    ] = None,
) -> None:
    """Write the spec; what changed its meaning goes to stderr."""
    from blis_sim.catalog.locate import locate
    from blis_sim.workload.compose import compose as compose_parts
    from blis_sim.workload.compose import read_parts

    check_out(out, specs)
    composed = compose_parts(
        read_parts([locate(spec).path for spec in specs]), _factors(scale or [])
    )
    title = f"blis compose {' '.join(map(str, specs))}"
    write_spec(composed.settings, out, title, composed.notices)


def _factors(texts: list[str]) -> dict[str, float]:
    factors: dict[str, float] = {}
    for text in texts:
        name, _, typed = text.rpartition("=")
        try:
            factor = float(typed)
        except ValueError:
            factor = 0.0
        if not name or not factor > 0:
            raise ConfigError(f"--scale must be NAME=FACTOR with a factor > 0; got {text!r}")
        if name in factors:
            raise ConfigError(f"--scale {name} must be given once; got it twice")
        factors[name] = factor
    return factors
