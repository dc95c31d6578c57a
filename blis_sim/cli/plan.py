"""``blis plan``: which GPUs, how many, at what cost."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import EXIT_FAILED, note, out
from blis_sim.cli.compare_candidates import list_of
from blis_sim.cli.flag_command import make_command, own_options, read_settings, write_text
from blis_sim.cli.flags import Flag, Typed
from blis_sim.cli.study_flags import (
    backend_of,
    dry_run_flag,
    opened_store,
    run_switches,
    shared_flags,
    store_path,
    study_flags,
)
from blis_sim.cli.study_outputs import check_outputs, prints_table
from blis_sim.cli.values import count
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.candidate import PlanCandidate
    from blis_sim.capacity.plan import Plan, PlanSettings
    from blis_sim.capacity.slo import Limit
    from blis_sim.cli.settings import Settings

HELP = "Find which GPUs carry a load within its limits, how many, and what they cost."
_MORE = """
For every GPU, TP degree and value of --grid the highest rate of one replica that keeps --slo is
searched on the simulator; how many replicas carry --rate follows, and the cheapest plan is
simulated once as a whole cluster. With --max-rate-only it ends with the highest rates.

All simulations are kept in a store: the same question goes on where it was stopped, and one for
another rate, more GPUs or other prices reuses what is there. Exit code 1: nothing keeps the
limits.
"""
_PANEL = "What to plan"
_LISTS = {
    "--models": ("model", "--model", "Models, long or short names (Llama-3.1-8B-Instruct)."),
    "--gpus": (
        "hardware",
        "--gpu --hardware",
        "GPUs (all with measured kernels and a price).",
    ),
    "--tp": ("engine.tensor_parallel_size", "--tensor-parallel-size -tp", "TP degrees (1,2,4,8)."),
}
_DEFAULT_DEGREES = (1, 2, 4, 8)
_MOST_CANDIDATES = 2000


def plan_flags() -> tuple[Flag, ...]:
    """Return the flags of the command."""
    lists = tuple(
        Flag(
            names=(name, *others.split()),
            path=path,
            metavar="LIST",
            panel=_PANEL,
            is_repeatable=True,
            help=text,
            apply=_chosen_apart,
        )
        for name, (path, others, text) in _LISTS.items()
    )
    own = (
        Flag(
            names=("--slo",),
            metavar="LIMITS",
            panel=_PANEL,
            help="Limits to keep, e.g. p99_ttft_ms:500,p95_itl_ms:50; or goodput:99% of the "
            "requests within --goodput.",
        ),
        Flag(
            names=("--rate", "--request-rate"),
            path="workload.request_rate",
            metavar="RATE",
            panel=_PANEL,
            apply=_chosen_apart,
            help="Requests per second to carry.",
        ),
        Flag(
            names=("--max-rate-only",),
            panel=_PANEL,
            help="Only find the highest rate of each candidate.",
        ),
        Flag(
            names=("--grid",),
            metavar="A.B=V1,V2",
            panel=_PANEL,
            is_repeatable=True,
            help="Another setting to try and its values, e.g. "
            "engine.max_num_batched_tokens=2048,8192.",
        ),
        Flag(
            names=("--tolerance",),
            metavar="FRACTION",
            panel=_PANEL,
            help="Where a search ends: relative width of the range the rate lies in (0.03).",
        ),
        Flag(
            names=("--max-simulations",),
            metavar="N",
            panel=_PANEL,
            parse=count,
            help="Simulations per candidate at most (12).",
        ),
        Flag(
            names=("--max-requests",),
            metavar="N",
            panel=_PANEL,
            parse=count,
            help="Requests of a full simulation of a search (16000; more for limits above p99).",
        ),
        Flag(
            names=("--no-verify",), panel=_PANEL, help="Do not simulate the winner as a cluster."
        ),
    )
    results = (
        Flag(names=("--json",), metavar="FILE|-", panel="Results", help="Write everything."),
        Flag(
            names=("--csv",), metavar="FILE|-", panel="Results", help="Write a line per candidate."
        ),
    )
    taken = {name for flag in (*lists, *own) for name in flag.names}
    shared = [flag for flag in shared_flags() if not taken.intersection(flag.names)]
    dry = dry_run_flag("Show the candidates and stop.")
    return (*lists, *own, *study_flags(), dry, *shared, *results, *run_switches())


def _chosen_apart(settings: Settings, value: str, name: str) -> None:
    """Set nothing: every candidate takes one value of each list, and the search its rates."""


def make_plan(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a normalised command line."""
    return make_command("blis plan", f"{HELP}\n\n{_MORE}", plan_flags(), arguments, _run)


def _run(typed: Sequence[Typed]) -> None:
    import typer

    options = own_options(typed)
    is_quiet = "--quiet" in options
    limits = _limits(options)
    careful = _careful(options)
    candidates, rate, notices = _candidates(typed, options)
    path = store_path(options)
    check_outputs(options, path)
    for notice in () if is_quiet else notices:
        note(notice)
    if "--dry-run" in options:
        out(f"{len(candidates)} candidate{'s' * (len(candidates) != 1)}:")
        for each in candidates:
            out(f"  {each.model} on {each.words()}")
        return
    plan = _planned(candidates, rate, limits, careful, options)
    _write(plan, options, is_quiet=is_quiet)
    if not plan.is_carried:
        raise typer.Exit(EXIT_FAILED)


def _limits(options: Mapping[str, Any]) -> tuple[Limit, ...]:
    from blis_sim.capacity.slo import EXAMPLE, parse_slo

    if "--slo" not in options:
        raise ConfigError(f"--slo must be given; got none; for example --slo {EXAMPLE}")
    return parse_slo(options["--slo"])


def _careful(options: Mapping[str, Any]) -> PlanSettings:
    from blis_sim.capacity.plan import PlanSettings

    given: dict[str, Any] = {}
    if "--tolerance" in options:
        text = options["--tolerance"]
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            raise ConfigError(f"--tolerance must be a fraction such as 0.03; got {text}") from None
        given["tolerance"] = share
    if "--max-simulations" in options:
        given["max_simulations"] = options["--max-simulations"]
    if "--max-requests" in options:
        given["most_requests"] = options["--max-requests"]
    try:
        return PlanSettings(**given)
    except ConfigError as error:
        raise ConfigError(f"--{str(error).replace('_', '-', 1)}") from None


def _candidates(
    typed: Sequence[Typed], options: Mapping[str, Any]
) -> tuple[list[PlanCandidate], float | None, list[str]]:
    """Return what may be deployed, the target rate, and how flags were read."""
    settings = read_settings(options)
    settings.apply(typed)
    _check_typed(typed, settings)
    rate = _target_rate(typed, settings, options)
    axes = list(_axes(typed, settings, options))
    pairs = [list(zip(each.values, each.names, strict=True)) for each in axes]
    number = 1
    for each in pairs:
        number *= len(each)
    if number > _MOST_CANDIDATES:
        raise ConfigError(
            f"a plan must have at most {_MOST_CANDIDATES:,} candidates; got {number:,}; take "
            "fewer GPUs, TP degrees or values of --grid"
        )
    found = []
    listed = {path: name for name, (path, _, _) in _LISTS.items()}
    for combination in product(*pairs):
        draft = copy.deepcopy(settings.draft)
        for each, (value, _) in zip(axes, combination, strict=True):
            draft.set(each.path, value, listed.get(each.path, f"--grid {each.path}"))
        names = {a.path: name for a, (_, name) in zip(axes, combination, strict=True)}
        found.append(_candidate(draft.build(), names))
    return found, rate, [*settings.notices, *_price_notices(found)]


def _price_notices(candidates: Sequence[PlanCandidate]) -> Iterator[str]:
    """Yield which prices of the user's file no GPU has: a slip would leave the shipped ones."""
    from blis_sim.catalog.gpus import list_gpus
    from blis_sim.catalog.locate import locate
    from blis_sim.catalog.prices import unknown_gpus
    from blis_sim.errors import nearest

    file = candidates[0].scenario.prices
    if file is None:
        return
    known = {each.gpu for each in candidates}
    for name in unknown_gpus(locate(file).path, known):
        close = ", ".join(nearest(name, [*known, *(gpu.name for gpu in list_gpus())]))
        yield f"{file}: no GPU is known as {name}, its price counts for none; nearest: {close}"


def _check_typed(typed: Sequence[Typed], settings: Settings) -> None:
    """Check that what was typed decides something: the search itself says how long runs last."""
    if settings.draft.get("workload.trace") is not None:
        return
    for one in typed:
        if one.flag.path in {"workload.num_requests", "workload.duration_s"}:
            raise ConfigError(
                f"{one.name} must not be given to blis plan without a trace; got {one.value}: the "
                "search decides how long its simulations are; give --max-requests"
            )


def _candidate(scenario: Any, names: dict[str, Any]) -> PlanCandidate:
    from blis_sim.capacity.candidate import PlanCandidate
    from blis_sim.capacity.names import model_and_gpu

    if scenario.cluster.pools:
        raise ConfigError(
            "cluster.pools must not be given to blis plan: it looks for the number of replicas "
            "of one kind; leave them out, or compare pools with blis sweep or blis tune"
        )
    model, gpu = model_and_gpu(scenario)
    shown = {path for path, _, _ in _LISTS.values()}
    return PlanCandidate(
        scenario=scenario,
        model=model,
        gpu=gpu,
        settings={path: name for path, name in names.items() if path not in shown},
    )


def _target_rate(
    typed: Sequence[Typed], settings: Settings, options: Mapping[str, Any]
) -> float | None:
    given = [one for one in typed if one.flag.names[0] == "--rate"]
    text = given[0].value if given else settings.draft.get("workload.request_rate")
    if "--max-rate-only" in options:
        if given:
            raise ConfigError(
                f"--rate must not be given with --max-rate-only; got {text}; leave one out"
            )
        return None
    if text is None:
        raise ConfigError(
            "--rate must be given: the requests per second to carry; got none; or look for the "
            "highest rates alone with --max-rate-only"
        )
    try:
        rate = float(text)
    except (TypeError, ValueError):
        rate = -1.0
    if not 0 < rate < float("inf"):
        raise ConfigError(f"--rate must be above 0 requests/s and finite; got {text}")
    return rate


def _axes(typed: Sequence[Typed], settings: Settings, options: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the axes of the candidates: models, GPUs, TP degrees, then those of ``--grid``."""
    from blis_sim.capacity.grid import axis
    from blis_sim.capacity.plan_load import check_choice
    from blis_sim.cli.sweep_points import read_axes

    extra = read_axes(options.get("--grid", ()))
    taken = [each.path for each in extra]
    if "workload.request_rate" in taken or "workload.num_requests" in taken:
        raise ConfigError(
            "--grid must not name the rate or the number of requests: the search sets them; give "
            "--rate and --max-requests"
        )
    for path in taken:
        check_choice(path, "--grid")
    for name, (path, _, _) in _LISTS.items():
        values = [one.value for one in list_of(typed, name) if one is not None]
        if path in taken:
            if values:
                raise ConfigError(
                    f"{name} must not be given with a --grid over the same setting; got both; "
                    "leave one out"
                )
            continue
        if not values and settings.draft.get(path) is not None:
            continue
        if not values and name == "--models":
            continue
        if not values:
            values = _default_gpus() if name == "--gpus" else list(map(str, _DEFAULT_DEGREES))
        yield axis(path, values)
    yield from extra


def _default_gpus() -> list[str]:
    """Return the GPUs whose kernels were measured and whose price is known."""
    from blis_sim.catalog.gpus import list_gpus, same_gpu_key
    from blis_sim.catalog.prices import gpu_price, load_prices
    from blis_sim.latency.kernel_tables.borrow import shipped_bench_data
    from blis_sim.latency.kernel_tables.layout import gpus_in

    gpus, prices = list_gpus(), load_prices()
    measured = {same_gpu_key(name, gpus) for name in gpus_in(shipped_bench_data())}
    return [
        gpu.name
        for gpu in gpus
        if same_gpu_key(gpu.name, gpus) in measured and gpu_price(gpu.name, prices) is not None
    ]


def _planned(
    candidates: Sequence[PlanCandidate],
    rate: float | None,
    limits: tuple[Limit, ...],
    careful: PlanSettings,
    options: Mapping[str, Any],
) -> Plan:
    from blis_sim.capacity.plan import Planner
    from blis_sim.capacity.point_key import given_settings
    from blis_sim.cli.study_progress import Tally, study_progress

    is_quiet, tally, path = "--quiet" in options, Tally(), store_path(options)
    backend = backend_of(options)
    asked = {
        "candidates": [each.labels() for each in candidates],
        "first": given_settings(candidates[0].scenario),
    }
    with (
        opened_store(path, is_quiet=is_quiet) as store,
        study_progress(None, tally, is_wanted=not is_quiet) as on_outcome,
    ):
        planner = Planner(limits, store, backend, careful, on_outcome)
        plan = planner.run(candidates, rate, asked=asked, verify="--no-verify" not in options)
    if not is_quiet:
        where = "" if path is None else f"; kept in {path}: blis report {path} --out report.html"
        note(f"{tally.words()}{where}")
    return plan


def _write(plan: Plan, options: Mapping[str, Any], *, is_quiet: bool) -> None:
    from blis_sim.capacity.ranking import plan_rows
    from blis_sim.metrics.plain import to_plain
    from blis_sim.report.plan_table import render_plan
    from blis_sim.report.sweep_files import records_csv

    if "--json" in options:
        document = to_plain(plan.to_json_dict())
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(text + "\n", options["--json"])
    if "--csv" in options:
        write_text(records_csv(list(plan_rows(plan))), options["--csv"])
    if prints_table(options):
        out(render_plan(plan))
