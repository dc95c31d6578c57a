"""Layers point one way, and starting is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import blis_sim

PACKAGE = Path(blis_sim.__file__).parent

LAYERS = (
    ("errors", "units", "version", "rng", "atomic"),
    ("config",),
    ("catalog", "workload"),
    ("transformer",),
    ("latency", "roofline"),
    ("metrics",),
    ("engine",),
    ("cluster",),
    ("api",),
    ("calibration", "capacity", "validation"),
    ("report",),
    ("benchmark",),
    ("cli",),
    ("__init__", "__main__"),
)
"""From the bottom; a module imports its own layer and those below."""

EXCEPTIONS = {
    # A convenience of the Python API: Result.save writes a report.
    ("metrics.result", "report.json_report"),
    # The same: RooflineAnalyzer.plot_roofline draws.
    ("roofline.analyzer", "report.roofline_plot_file"),
}


def rank(module: str) -> int:
    room = module.partition(".")[0]
    for number, rooms in enumerate(LAYERS):
        if room in rooms:
            return number
    raise AssertionError(f"{module} belongs to no layer")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        yield ".".join(parts), path


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a file imports anywhere but for type checking."""
    for node in _run_time_nodes(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module in {"blis_sim", "blis_sim.cli"}:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("blis_sim."):
                yield name.removeprefix("blis_sim.")


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _run_time_nodes(child)


def test_layers_point_one_way() -> None:
    """No module imports from a layer above its own, inside functions either."""
    wrong = {
        (module, imported)
        for module, path in modules()
        for imported in imports(path)
        if rank(imported) > rank(module) and (module, imported) not in EXCEPTIONS
    }
    assert wrong == set()


def test_exceptions_are_still_needed() -> None:
    """A rule that nobody breaks any more goes away."""
    found = {(module, imported) for module, path in modules() for imported in imports(path)}
    assert found >= EXCEPTIONS


def test_the_workload_knows_nothing_of_the_engine() -> None:
    """It may be used alone: only the scenario and what knows nothing of serving is below it."""
    rooms = {
        imported.partition(".")[0]
        for module, path in modules()
        if module.startswith("workload")
        for imported in imports(path)
    }
    assert rooms <= {"workload", "config", "errors", "units", "rng", "atomic"}


def loaded_after(statement: str) -> set[str]:
    """Return the top-level packages a fresh interpreter has loaded after ``statement``."""
    code = f"import sys\n{statement}\nprint('\\n', *sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


HEAVY = {"numpy", "pandas", "simpy", "pydantic", "yaml", "pyarrow", "matplotlib"}


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import blis_sim", HEAVY | {"typer", "rich"}),
        ("import blis_sim.cli.main", HEAVY),
        ("from blis_sim.cli.main import main; main(['--help'])", HEAVY),
        # typer itself imports rich, and reads values with pydantic.
        ("from blis_sim.cli.main import main; main(['--version'])", HEAVY - {"pydantic"}),
        (
            "from blis_sim.cli.main import main; main(['gpus'])",
            {"numpy", "pandas", "simpy", "pyarrow"},
        ),
        (
            "from blis_sim.cli.main import main; main(['run', '--num-requests', '3'])",
            {"pandas", "pyarrow", "matplotlib", "joblib"},
        ),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(statement: str, heavy: set[str]) -> None:
    """Help and lists start at once; a run without Parquet needs no pandas."""
    assert loaded_after(statement) & heavy == set()
