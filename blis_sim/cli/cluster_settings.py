"""What the flags about clusters do to the scenario."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from blis_sim.cli.values import count, duration_s
from blis_sim.config.policy_names import METRICS, PRIORITIES, SCORERS
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.cli.settings import Settings
    from blis_sim.config.draft import ScenarioDraft

_UNLIMITED_AT_0 = "--max-gateway-queue-depth"
_US_PER_S = 1_000_000
_US_PER_MS = 1_000


def apply_scorers(settings: Settings, value: str, name: str) -> None:
    """``--routing-scorers``: weights by scorer; they select ``weighted`` unless a policy is."""
    weights: dict[str, str] = {}
    for pair in value.split(","):
        word, colon, weight = pair.partition(":")
        if not word.strip() or (colon and not weight.strip()):
            raise ConfigError(
                f"{name} must be scorers with their weights such as "
                f"prefix-affinity:3,queue-depth:2; got {value!r}"
            )
        scorer = SCORERS.read(word, name)
        if scorer in weights:
            raise ConfigError(
                f"{name} must name each scorer once; got {scorer} twice; leave one out"
            )
        weights[scorer] = weight.strip() or "1"
    settings.draft.set("cluster.routing.scorers", weights, name)


def apply_autoscale(settings: Settings, value: str, name: str) -> None:
    """``--autoscale``: ``concurrency:32:1-8``."""
    match = re.fullmatch(r"([^:]+):([^:]+):(\d+)-(\d+)", re.sub(r"\s", "", value))
    if match is None:
        raise ConfigError(
            f"{name} must be METRIC:TARGET:MIN-MAX such as concurrency:32:1-8; got {value!r}"
        )
    settings_by_name = {
        "metric": METRICS.read(match[1], name),
        "target": match[2],
        "min_instances": match[3],
        "max_instances": match[4],
    }
    for key, one in settings_by_name.items():
        shown = key.partition("_")[0]
        settings.draft.set(f"cluster.autoscaling.{key}", one, f"the {shown} of {name}")


def apply_priority(settings: Settings, value: str, name: str) -> None:
    """``--priority-policy``: there is one, and it sets nothing."""
    PRIORITIES.read(value, name)


def apply_queue_limit(settings: Settings, value: str, name: str) -> None:
    """``--gateway-queue-limit``; under the name of BLIS 0 means no limit."""
    limit = count(value, name)
    if name == _UNLIMITED_AT_0 and limit == 0:
        settings.notices.append(f"{name} 0 is read as no limit, as BLIS does")
        settings.draft.set("cluster.gateway.queue_limit", None, name)
        return
    settings.draft.set("cluster.gateway.queue_limit", limit, name)


def apply_transfer_latency(settings: Settings, value: str, name: str) -> None:
    """``--pd-transfer-base-latency``: a bare number is BLIS's milliseconds."""
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", value.strip()):
        latency_us = float(value) * _US_PER_MS
        if latency_us:
            settings.notices.append(f"{name} {value} is read as milliseconds: {latency_us:g} us")
    else:
        latency_us = duration_s(value, name) * _US_PER_S
    latency_us = round(latency_us, 6)  # what binary fractions add
    if not latency_us.is_integer():
        raise ConfigError(f"{name} must be a whole number of microseconds; got {value}")
    settings.draft.set("cluster.disaggregation.link_latency_us", int(latency_us), name)


def apply_split(role: str, settings: Settings, value: str, name: str) -> None:
    """``--prefill-instances``, ``--decode-instances``: taken together in the end."""
    settings.split[role] = count(value, name)


def split_instances(draft: ScenarioDraft, instances: Mapping[str, int]) -> None:
    """Make a prefill and a decode pool of the one pool of a scenario.

    Parameters
    ----------
    draft : ScenarioDraft
        The scenario in the making.
    instances : mapping
        Instances by role; a role that is missing has none.

    Raises
    ------
    ConfigError
        A role has no instances, there are pools already, or ``--num-instances`` is another
        number than the sum.
    """
    flags = "--prefill-instances and --decode-instances"
    for role in ("prefill", "decode"):
        if not instances.get(role):
            other = "decode" if role == "prefill" else "prefill"
            got = instances.get(role, "none")
            raise ConfigError(
                f"--{role}-instances must be >= 1 with --{other}-instances "
                f"{instances[other]}; got {got}; give both or none"
            )
    if draft.get("cluster.pools"):
        raise ConfigError(
            f"{flags} must not be given with a scenario that has cluster.pools; got "
            f"{instances['prefill']} and {instances['decode']}; change num_instances of its pools"
        )
    total = sum(instances.values())
    typed = draft.overridden("cluster.num_instances")
    if typed is not None and str(typed[1]).strip() != str(total):
        raise ConfigError(
            f"{typed[0]} must be the sum of {flags} ({total}); got {typed[1]}; leave it out"
        )
    draft.remove("cluster.num_instances")
    pools = [
        {"name": role, "role": role, "num_instances": number}
        for role, number in sorted(instances.items(), reverse=True)
    ]
    draft.set("cluster.pools", pools, flags)
    draft.default("cluster.disaggregation", {})
