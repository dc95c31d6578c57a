"""The command ``blis``."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from blis_sim.cli import (
    bench,
    bench_data,
    calibrate,
    common,
    compare,
    compose,
    convert,
    gpus,
    import_spec,
    models,
    plan,
    report,
    results,
    roofline,
    run,
    step,
    sweep,
    tune,
    validate,
    workload,
)
from blis_sim.cli.flags import Flag, check_values, normalized
from blis_sim.cli.later import about_foreign_flag
from blis_sim.cli.run_flags import run_flags
from blis_sim.errors import BlisError, InvariantError, SimulationError, nearest

_HELP = "Predict how an LLM serving deployment behaves, without GPUs."


def make_app(arguments: Sequence[str]) -> typer.Typer:
    """Return the application for a normalised command line."""
    app = typer.Typer(
        name="blis",
        help=_HELP,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    app.command("run", help=run.ABOUT, add_help_option=False)(run.make_run(arguments))
    app.command("compare", help=compare.HELP, add_help_option=False)(
        compare.make_compare(arguments)
    )
    app.command("sweep", help=sweep.HELP, add_help_option=False)(sweep.make_sweep(arguments))
    kept = typer.Typer(help=results.HELP, no_args_is_help=True, rich_markup_mode=None)
    kept.command("list", help=results.LIST_HELP)(results.list_studies)
    kept.command("show", help=results.SHOW_HELP)(results.show)
    kept.command("export", help=results.EXPORT_HELP)(results.export)
    app.add_typer(kept, name="results")
    app.command("report", help=report.HELP)(report.report)
    app.command("plan", help=plan.HELP, add_help_option=False)(plan.make_plan(arguments))
    app.command("tune", help=tune.HELP, add_help_option=False)(tune.make_tune(arguments))
    app.command("validate", help=validate.HELP, add_help_option=False)(
        validate.make_validate(arguments)
    )
    app.command("calibrate", help=calibrate.HELP, add_help_option=False)(
        calibrate.make_calibrate(arguments)
    )
    app.command("step", help=step.HELP, add_help_option=False)(step.make_step(arguments))
    app.add_typer(roofline.make_roofline(arguments), name="roofline")
    app.command("models", help=models.HELP)(models.models)
    app.command("gpus", help=gpus.HELP)(gpus.gpus)
    loads = typer.Typer(help=workload.HELP, no_args_is_help=True, rich_markup_mode=None)
    loads.command("describe", help=workload.DESCRIBE_HELP)(workload.describe)
    loads.command("generate", help=workload.GENERATE_HELP)(workload.generate)
    loads.command("import", help=import_spec.HELP)(import_spec.import_spec)
    app.add_typer(loads, name="workload")
    app.command("convert", help=convert.HELP)(convert.convert)
    app.command("compose", help=compose.HELP)(compose.compose)
    tables = typer.Typer(help=bench_data.HELP, no_args_is_help=True, rich_markup_mode=None)
    tables.command("explain", help=bench_data.EXPLAIN_HELP)(bench_data.explain)
    tables.command("check", help=bench_data.CHECK_HELP)(bench_data.check)
    app.add_typer(tables, name="bench-data")
    benchmarks = typer.Typer(help=bench.HELP, no_args_is_help=True, rich_markup_mode=None)
    benchmarks.callback()(_benchmarks)
    benchmarks.command("engine", help=bench.ENGINE_HELP)(bench.engine)
    benchmarks.command("cluster", help=bench.CLUSTER_HELP)(bench.cluster)
    benchmarks.command("sweep", help=bench.SWEEP_HELP)(bench.sweep)
    app.add_typer(benchmarks, name="bench")
    return app


def _root(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version and exit.")
    ] = False,
) -> None:
    if version:
        from blis_sim.version import package_version

        common.out(f"blis {package_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        common.out(context.get_help())


def _benchmarks() -> None:
    """Hold the benchmarks: with a callback, a single one keeps its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    0 = done, 1 = the run failed, 2 = the command line or a file is wrong, 130 = interrupted.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the name of the program; that of this process by default.
    """
    typed = normalized(sys.argv[1:] if arguments is None else arguments, run_flags())
    try:
        return _invoke(typed)
    except (KeyboardInterrupt, typer.Abort):
        return common.EXIT_INTERRUPTED
    except BrokenPipeError:
        return common.forget_stdout()
    except Exception as error:
        if "--debug" in typed:
            traceback.print_exc()
        return _report(error)


def _invoke(typed: list[str]) -> int:
    # A subcommand stands in place of the flags of its group.
    has_own = len(typed) > 1 and typed[0] == "roofline" and not typed[1].startswith("-")
    flags = () if has_own else _flags_of(" ".join(typed[:1]))
    if flags:
        check_values(flags, typed)
    returned = make_app(typed)(typed, prog_name="blis", standalone_mode=False)
    sys.stdout.flush()
    return returned if isinstance(returned, int) else common.EXIT_OK


def _flags_of(command: str) -> tuple[Flag, ...]:
    """Return the table of flags of a command that has one."""
    tables = {
        "run": run_flags,
        "compare": compare.compare_flags,
        "sweep": sweep.sweep_flags,
        "plan": plan.plan_flags,
        "tune": tune.tune_flags,
        "validate": validate.validate_flags,
        "calibrate": calibrate.calibrate_flags,
        "step": step.step_flags,
        "roofline": roofline.roofline_flags,
    }
    return tables[command]() if command in tables else ()


def _report(error: Exception) -> int:
    """Print what went wrong in one line and return the exit code."""
    if isinstance(error, SimulationError | InvariantError):
        common.error_line(str(error))
        return common.EXIT_FAILED
    if isinstance(error, BlisError):
        common.error_line(str(error))
        return common.EXIT_USAGE
    message = _usage_message(error)
    if message:
        common.error_line(message)
        return common.EXIT_USAGE
    common.error_line(
        f"{type(error).__name__}: {error}; this is a defect, please report it with the "
        "output of --debug"
    )
    return common.EXIT_FAILED


def _usage_message(error: Exception) -> str:
    """Return what typer found wrong with a command line, empty when it was something else.

    Depending on its version typer raises exceptions of click or of its own copy of it: they
    are recognised by what they offer.
    """
    describe = getattr(error, "format_message", None)
    if describe is None:
        return ""
    message, option = str(describe()).rstrip("."), getattr(error, "option_name", None)
    command = getattr(getattr(error, "ctx", None), "command_path", "blis")
    if option is None or "no such option" not in message.lower():
        return f"{message}; see {command} --help"
    table = run_flags() if command == "blis" else _flags_of(command.removeprefix("blis "))
    flags = [name for flag in table for name in (*flag.names, *flag.off_names)]
    if command == "blis" and option in flags:
        return f"{option} must come after the command; try blis run {option}"
    foreign = about_foreign_flag(option)
    if foreign:
        return foreign
    is_listed = flags and command != "blis"
    known = [f for f in flags if f.startswith("--")] if is_listed else ["--help"]
    return f"{option} must be a known flag; nearest: {', '.join(nearest(option, known))}"


if __name__ == "__main__":
    sys.exit(main())
