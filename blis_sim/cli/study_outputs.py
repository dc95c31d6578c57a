"""Where the results of a study go besides its store: checked before anything is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blis_sim.cli.flag_command import STDOUT
from blis_sim.errors import ConfigError

RESULT_FLAGS = ("--json", "--csv")
_INPUTS = ("--scenario", "--policy-config", "--serve-params", "--bench-params")


def check_outputs(options: Mapping[str, Any], store: Path | None) -> None:
    """Check that results go to different files, none of which is an input.

    Raises
    ------
    ConfigError
        They do not, or a file cannot be written.
    """
    from blis_sim.atomic import check_output_path

    to_stdout = [flag for flag in RESULT_FLAGS if options.get(flag) == STDOUT]
    if len(to_stdout) > 1:
        raise ConfigError("--csv must not be - together with --json -; give one of them a file")
    taken = {} if store is None else {store.resolve(): "the store"}
    taken |= {Path(options[flag]).resolve(): "an input" for flag in _INPUTS if flag in options}
    for flag in RESULT_FLAGS:
        if flag not in options or flag in to_stdout:
            continue
        check_output_path(options[flag], flag)
        target = Path(options[flag]).resolve()
        if target in taken:
            raise ConfigError(
                f"{flag} must be another file than {taken[target]}; got {options[flag]}"
            )
        taken[target] = f"that of {flag}"


def prints_table(options: Mapping[str, Any]) -> bool:
    """Return whether the table goes to standard output, for people."""
    is_data = STDOUT in {options.get(flag) for flag in RESULT_FLAGS}
    return "--quiet" not in options and not is_data
