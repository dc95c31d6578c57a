"""Cohorts of BLIS workload specs: many clients that are alike (sim/workload/cohort.go)."""

from __future__ import annotations

import copy

from blis_sim.workload.importing.blis_clients import Member, Window, read_contents, read_labels
from blis_sim.workload.importing.blis_lengths import convert_arrival
from blis_sim.workload.importing.source import Source, plain

_US_PER_S = 1e6
_DAY_S = 86400
_HOUR_S = 3600
_MAX_MEMBERS = 1000


def read_cohorts(spec: Source, version: str, notices: list[str]) -> list[Member]:
    """Return the entries of ``cohorts``; Poisson clients with one rate are one client."""
    members = []
    for number, cohort in enumerate(spec.sections("cohorts"), start=1):
        name = cohort.text("id") or f"cohort-{number}"
        member = Member(cohort, {"name": name} | read_labels(cohort, version))
        member.fraction = cohort.need_number("rate_fraction", above=0)
        member.settings["arrivals"] = convert_arrival(cohort, "arrival", notices)
        read_contents(member, notices)
        _read_pattern(member, notices)
        members.extend(_population(member, notices))
        cohort.finish()
    return members


def _read_pattern(member: Member, notices: list[str]) -> None:
    cohort = member.source
    given = [key for key in ("diurnal", "spike", "drain") if cohort.has(key)]
    if len(given) > 1:
        raise cohort.error(given[1], f"not be given beside {given[0]}", "make two cohorts")
    diurnal, spike, drain = (cohort.section(key) for key in ("diurnal", "spike", "drain"))
    if diurnal is not None:
        ratio = diurnal.number("peak_to_trough_ratio", at_least=1)
        hour = diurnal.whole("peak_hour", 0) or 0
        diurnal.finish()
        if ratio is None:
            raise diurnal.error("peak_to_trough_ratio", "be given")
        # The rate falls from its full height at the peak to 1 / ratio of it.
        member.factor = (1 + 1 / ratio) / 2
        amplitude = (ratio - 1) / (ratio + 1)
        member.settings["rate_curve"] = [
            {
                "kind": "diurnal",
                "amplitude": plain(amplitude),
                "period_s": _DAY_S,
                "peak_at_s": hour * _HOUR_S,
            }
        ]
        notices.append(
            f"{cohort.name('diurnal')}: the rate follows the day evenly, every day; BLIS "
            "switches the clients off for a part of each hour of the first day"
        )
    if spike is not None:
        start_us = spike.number("start_time_us", 0, at_least=0) or 0.0
        end_us = start_us + spike.need_number("duration_us", above=0)
        rate = spike.number("trace_rate", above=0, unit="requests/s")
        spike.finish()
        member.windows = [Window(start_us / _US_PER_S, end_us / _US_PER_S, rate)]
    if drain is not None:
        start_us = drain.number("start_time_us", 0, at_least=0) or 0.0
        member.ramp_s = drain.need_number("ramp_duration_us", above=0) / _US_PER_S
        drain.finish()
        member.windows = [Window(0.0, start_us / _US_PER_S)]
        notices.append(f"{cohort.name('drain')}: the rate falls evenly; BLIS has ten steps")


def _population(member: Member, notices: list[str]) -> list[Member]:
    """Return one client for all of a Poisson cohort, else a client for each member."""
    cohort, settings = member.source, member.settings
    size = cohort.whole("population", at_least=1)
    if size is None:
        raise cohort.error("population", "be given")
    own_prefix = cohort.choice("prefix_sharing", ("shared", "per_member"), "shared")
    group = settings.get("prefix_group")
    if own_prefix == "per_member" and group is None:
        raise cohort.error("prefix_sharing", "be used with prefix_group")
    single = settings.get("num_requests") == 1
    if size == 1 or (settings["arrivals"]["process"] == "poisson" and not single):
        if own_prefix == "per_member":
            settings["num_prefix_groups"] = size
        if size > 1:
            notices.append(
                f"{cohort.name()}: {size} clients with Poisson arrivals are one client with "
                "their rate together, which is the same load"
            )
        return [member]
    if size > _MAX_MEMBERS:
        raise cohort.error(
            "population",
            f"be <= {_MAX_MEMBERS} with {settings['arrivals']['process']} arrivals",
            "each becomes a client of its own; a cohort with poisson arrivals has no limit",
        )
    members = []
    for number in range(size):
        one = copy.copy(member)
        one.settings = copy.deepcopy(settings) | {"name": f"{settings['name']}-{number}"}
        one.fraction = member.fraction / size
        one.windows = [
            Window(w.start_s, w.end_s, None if w.rate is None else w.rate / size, w.settings)
            for w in member.windows
        ]
        if own_prefix == "per_member":
            one.settings["prefix_group"] = f"{group}-{number}"
        members.append(one)
    return members
