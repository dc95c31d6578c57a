"""Reading what a study asked and answered; whatever is absent is no error."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.slo import Limit
from blis_sim.capacity.study import OutcomeStatus
from blis_sim.report.number_words import as_float, counted

if TYPE_CHECKING:
    from blis_sim.capacity.study import Study
    from blis_sim.report.averaged import AveragedPoint

SEPARATOR = " · "
"""Between facts on one line."""
_MOST_NOTICES = 30
_RATE = re.compile(r"(?<=arrivals) at [^;,]*/s")
"""In the load in words."""


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, anything else as an empty one."""
    return value if isinstance(value, Mapping) else {}


def records(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings of a list; anything else is an empty list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [each for each in value if isinstance(each, Mapping)]


def limits_of(study: Study) -> tuple[Limit, ...]:
    """Return the limits of the question, else of the answer, else those points were checked by."""
    checked: list[Any] = []
    for point in study.points:
        checked += [] if point.outcome is None else list(point.outcome.checks)
    answer = mapping(study.answer)
    for source in (study.asked.get("limits"), answer.get("limits"), checked):
        found = {each.metric: each for each in _limits(source)}
        if found:
            return tuple(found.values())
    return ()


def _limits(values: Any) -> Iterator[Limit]:
    for each in records(values):
        value = as_float(each.get("value" if "limit" not in each else "limit"))
        if isinstance(each.get("metric"), str) and value is not None:
            yield Limit(each["metric"], value)


def sentence_of(study: Study) -> str:
    """Return the answer as the study wrote it, empty when it wrote none."""
    found = mapping(study.answer).get("sentence")
    return found.strip() if isinstance(found, str) else ""


def progress_notices(study: Study, points: Sequence[AveragedPoint]) -> list[str]:
    """Return what the reader should know about how far the study is, and what its runs noted."""
    num_open = sum(point.outcome is None for point in study.points)
    notices = []
    if num_open:
        whole = counted(len(study.points), "simulation")
        notices.append(
            f"{num_open:,} of {whole} are not finished: the command that began the study, given "
            "again, goes on with them"
        )
    failed = sum(point.status is OutcomeStatus.FAILED for point in points)
    if failed:
        notices.append(
            f"{counted(failed, 'combination')} failed; the command that began the study, given "
            "again, tries them again"
        )
    versions = {point.code_version for point in study.points if point.code_version}
    if len(versions) > 1:
        notices.append("the points were simulated by different versions of blis_sim")
    growing = sum(point.is_saturated for point in points)
    if growing:
        notices.append(
            f"the queue kept growing at {counted(growing, 'point')}: their latencies depend on "
            "how long the run was"
        )
    return notices + _run_notices(study)


def _run_notices(study: Study) -> list[str]:
    counts: dict[str, int] = {}
    for point in study.points:
        for text in () if point.outcome is None else point.outcome.notices:
            counts[text] = counts.get(text, 0) + 1
    every = sum(point.outcome is not None and point.outcome.is_done for point in study.points)
    said = [
        text if number == every else f"{text} ({number:,} of {every:,} simulations)"
        for text, number in counts.items()
    ]
    more = len(said) - _MOST_NOTICES
    return said[:_MOST_NOTICES] + [f"and {more} more notices"] * (more > 0)


def accuracy_notices(study: Study, of_answer: str = "", where: str = "of the answer") -> list[str]:
    """Return how far such figures were off where servers were measured.

    Parameters
    ----------
    study : Study
        With its points.
    of_answer : str
        Accuracy of what the answer names; empty = not known.
    where : str
        What that is.
    """
    done = (point.outcome for point in study.points if point.outcome is not None)
    texts = [outcome.accuracy for outcome in done if outcome.is_done and outcome.accuracy]
    if len(set(texts)) == 1:
        return [f"accuracy, {texts[0]}"]
    notices = [f"accuracy {where}, {of_answer}"] if of_answer else []
    kinds = Counter(text.partition(":")[0] for text in texts)
    if len(kinds) > 1 or (kinds and not notices):
        each = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
        notices.append(f"accuracy of the {len(texts):,} simulations: {each}")
    return notices


def question_of(study: Study, otherwise: str) -> str:
    """Return the question as the study wrote it."""
    is_named = study.name and study.name != study.kind.value
    return study.name[0].upper() + study.name[1:] if is_named else otherwise


def load_of(study: Study) -> str:
    """Return the load in words where all points have the same one, but for its rate."""
    done = (point.outcome for point in study.points if point.outcome is not None)
    loads = {outcome.load for outcome in done if outcome.load}
    if len(loads) > 1:
        loads = {_RATE.sub("", load, count=1) for load in loads}
    return loads.pop() if len(loads) == 1 else ""


def sentence(text: str) -> str:
    """Return text that begins with a capital and ends with a full stop."""
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
