"""Settings written as ``engine.max_num_seqs=64``."""

from __future__ import annotations

from typing import Any, NamedTuple

from blis_sim.errors import ConfigError


class Override(NamedTuple):
    """One setting and its new value."""

    path: str
    value: Any


def parse_override(text: str) -> Override:
    """Return the setting that ``text`` sets; the value is read as YAML.

    ``cluster.num_instances=2`` is a number, ``slo.ttft_ms=null`` takes a setting back, and
    ``workload.prompt={mean: 512, stdev: 100}`` sets a whole part.

    Raises
    ------
    ConfigError
        It has not the form ``a.b=value``, or the value is not YAML.
    """
    import yaml

    path, equals, value = text.partition("=")
    path = path.strip().replace("-", "_")
    if not equals or not path or not all(path.split(".")):
        raise ConfigError(
            f"--set must have the form a.b=value, such as engine.max_num_seqs=64; got {text!r}"
        )
    try:
        return Override(path, yaml.safe_load(value))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--set {path} must have a YAML value; got {value!r}: {reason}"
        ) from None
