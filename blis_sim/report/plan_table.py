"""``blis plan`` as a table: the candidates, ranked, and the answer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.report.text_columns import text_columns

if TYPE_CHECKING:
    from blis_sim.capacity.candidate import CandidatePlan
    from blis_sim.capacity.plan import Plan
    from blis_sim.capacity.slo import Limit

WIDTH = 100
MAX_WIDTH = 120
_DEPTH = 3
"""Lines of the header."""
_MUCH_DEARER = 10.0
"""Candidates that cost so many times as much as the best are named, not shown."""
_MOST_ROWS = 40
_WIDE = 0.1
"""Relative width of a range from which on more requests are worth their time."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column; the lower its ``rank`` the sooner it is left out, None = never."""

    header: tuple[str, ...]
    cells: list[str]
    is_left: bool = False
    rank: int | None = None

    def lines(self) -> list[str]:
        """Return header and cells, from above."""
        return [*self.header, *[""] * (_DEPTH - len(self.header)), *self.cells]


def render_plan(plan: Plan) -> str:
    """Return a table for each model, why others carry nothing, what was done, and the answer."""
    lines = [*textwrap.wrap(f"load: {plan.load}", WIDTH), ""] if plan.load else []
    for model in dict.fromkeys(each.candidate.model for each in plan.candidates):
        own = [each for each in plan.candidates if each.candidate.model == model]
        found = [each for each in own if each.rate > 0]
        lines += [model, *_table(found, plan), *_without_rate(own), ""]
    if any(each.rate > 0 for each in plan.candidates):
        lines += _legend(plan)
    lines += [*_work(plan), *_prices(plan), ""]
    for sentence in plan.sentences():
        lines += textwrap.wrap(sentence, WIDTH)
    for accuracy in dict.fromkeys(best.accuracy for best in plan.winners if best.accuracy):
        text = f"accuracy at the highest rate: {accuracy}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


# -- the table --------------------------------------------------------------------


def _table(found: Sequence[CandidatePlan], plan: Plan) -> Iterator[str]:
    if not found:
        return
    rows, too_dear = _worth_showing(found)
    columns, left_out = _fitting(list(_columns(rows, plan)))
    left = [number for number, column in enumerate(columns) if column.is_left]
    lines = text_columns(list(zip(*(each.lines() for each in columns), strict=True)), left)
    head = [line for line in lines[:_DEPTH] if line.strip()]
    rule = "-" * max(map(len, lines))
    yield from (rule, *head, rule, *lines[_DEPTH:], rule)
    if too_dear:
        names = "; ".join(each.candidate.words() for each in too_dear)
        text = f"not shown, above {_MUCH_DEARER:g} times the cost of the first: {names}"
        yield from textwrap.wrap(textwrap.shorten(text, 5 * WIDTH, placeholder=" ..."), WIDTH)
    number = len(found) - len(too_dear) - len(rows)
    if number:
        yield f"{number} more rows: --csv FILE has all"
    if left_out:
        yield from textwrap.wrap(f"left out for its width: {left_out} (--csv has all)", WIDTH)


def _worth_showing(
    found: Sequence[CandidatePlan],
) -> tuple[list[CandidatePlan], list[CandidatePlan]]:
    """Return the rows, and those that cost too much to be one."""
    least = found[0].usd_per_hour
    most = float("inf") if least is None else _MUCH_DEARER * least
    rows = [each for each in found if (each.usd_per_hour or 0.0) <= most]
    return rows[:_MOST_ROWS], [each for each in found if (each.usd_per_hour or 0.0) > most]


def _columns(rows: Sequence[CandidatePlan], plan: Plan) -> Iterator[_Column]:
    unit = "req/s" if plan.unit == "requests" else "conv/s"
    yield _Column(("",), ["*" if row.is_pareto else "" for row in rows])
    yield _Column(("GPU",), [row.candidate.gpu for row in rows], is_left=True)
    yield _Column(("TP",), [str(row.candidate.tensor_parallel_size) for row in rows])
    for path in dict.fromkeys(path for row in rows for path in row.candidate.settings):
        values = [str(row.candidate.settings.get(path, "-")) for row in rows]
        yield _Column(_split(path.rpartition(".")[2]), values)
    yield _Column(("rate", unit), [f"{row.rate:.4g}" for row in rows])
    yield _Column(("up to", unit), [_upper(row) for row in rows], rank=3)
    if plan.target_rate is not None:
        yield _Column(("repli-", "cas"), [str(row.num_replicas) for row in rows])
        yield _Column(("GPUs",), [str(row.num_gpus) for row in rows], rank=4)
        yield _Column(("USD", "per h"), [_usd(row.usd_per_hour) for row in rows])
        millions = [_usd(row.usd_per_million_output_tokens) for row in rows]
        yield _Column(("USD per", "M out-", "put tok"), millions, rank=1)
        yield _Column(("head-", "room"), [_percent(row.headroom_frac) for row in rows], rank=2)
    else:
        yield _Column(("USD", "per h"), [_usd(row.usd_per_replica_hour) for row in rows])
    per_user = [_whole(row.tokens_per_s_per_user) for row in rows]
    yield _Column(("tok/s", "per", "user"), per_user, rank=5)
    per_gpu = [_whole(row.tokens_per_s_per_gpu) for row in rows]
    yield _Column(("tok/s", "per", "GPU"), per_gpu, rank=0)
    for number, limit in enumerate(plan.limits):
        header = (*limit.short().split(), "" if limit.is_goodput else "ms")
        yield _Column(header, [_reached(row, limit) for row in rows], rank=100 - number)
    yield _Column(("binds first",), [row.binds for row in rows], is_left=True)


def _split(name: str) -> tuple[str, ...]:
    """Return the name of a setting in as many lines as there are for it."""
    words = name.split("_")
    lines = [f"{word}_" for word in words[:-1]] + words[-1:]
    return (*lines[: _DEPTH - 1], "".join(lines[_DEPTH - 1 :]))


def _fitting(columns: list[_Column]) -> tuple[list[_Column], str]:
    """Return columns that are not too wide together, and the names of those left out."""
    left_out: list[str] = []
    for column in sorted((c for c in columns if c.rank is not None), key=lambda c: c.rank or 0):
        width = sum(max(map(len, each.lines())) + 2 for each in columns) - 2
        if width > MAX_WIDTH:
            columns = [each for each in columns if each is not column]
            left_out.append(" ".join(column.header).replace("- ", ""))
    return columns, ", ".join(left_out)


def _upper(row: CandidatePlan) -> str:
    found = row.found
    return "-" if found is None or found.upper == float("inf") else f"{found.upper:.4g}"


def _reached(row: CandidatePlan, limit: Limit) -> str:
    at_rate = None if row.found is None else row.found.at_rate
    value = None if at_rate is None else at_rate.values.get(limit.metric)
    if value is None:
        return "-"
    if limit.is_goodput:
        return f"{100 * value:.2f} %"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _usd(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


# -- below it ---------------------------------------------------------------------


def _without_rate(own: Sequence[CandidatePlan]) -> Iterator[str]:
    """Yield why candidates carry nothing, each reason once."""
    names: dict[str, list[str]] = {}
    for row in own:
        if row.rate <= 0:
            names.setdefault(row.reason, []).append(row.candidate.words())
    for reason, words in names.items():
        text = f"left out: {'; '.join(words)}: {reason}"
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def _legend(plan: Plan) -> Iterator[str]:
    for line in (
        f"rate: the most {plan.unit}/s at which a replica surely keeps all limits, its figures"
        " there; up to: the fewest at which it surely misses one",
        "*: no candidate is both no dearer and no slower for a user, each at its own rate",
    ):
        yield from textwrap.wrap(line, WIDTH, subsequent_indent="  ")
    for best in plan.winners:
        yield from textwrap.wrap(_wide(best), WIDTH, subsequent_indent="  ")


def _wide(best: CandidatePlan) -> str:
    """Return what would make a wide range narrower, empty when it is not wide."""
    width = 0.0 if best.found is None else best.found.tolerance
    if width <= _WIDE:
        return ""
    if width == float("inf"):
        return (
            f"{best.candidate.words()} may carry more: the search ended after "
            f"{best.num_simulations} simulations below a rate that misses a limit; give more "
            "--max-simulations"
        )
    return (
        f"{best.candidate.words()} may carry up to {100 * width:.0f} % more than its rate: four "
        "times the --max-requests would about halve that range"
    )


def _work(plan: Plan) -> list[str]:
    number = len(plan.candidates)
    text = f"{number} candidate{'s' * (number != 1)}"
    if plan.num_pruned:
        text += f", {plan.num_pruned} dismissed without a simulation"
    most = max((row.num_simulations for row in plan.candidates), default=0)
    simulated = plan.num_simulations
    text += (
        f"; {simulated} simulation{'s' * (simulated != 1)}, at most {most} of a candidate, "
        f"{plan.num_requests:,} requests"
    )
    return textwrap.wrap(text, WIDTH)


def _prices(plan: Plan) -> Iterator[str]:
    shown = {row.candidate.gpu for row in plan.candidates if row.rate > 0}
    parts = []
    for price in plan.prices:
        if price["gpu"] in shown:
            number = price["num_offers"]
            dates = sorted({source.rpartition(", ")[2] for source in price["sources"]})
            when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
            offers = "" if number == 1 else f"median of {number}, "
            parts.append(f"{price['gpu']} {price['usd_per_gpu_hour']:.2f} ({offers}{when})")
    if parts:
        yield from textwrap.wrap(f"USD per GPU and hour: {', '.join(parts)}", WIDTH)
    missing = shown - {price["gpu"] for price in plan.prices}
    if missing:
        text = f"no price is known of {', '.join(sorted(missing))}: give --prices FILE"
        yield from textwrap.wrap(text, WIDTH)
