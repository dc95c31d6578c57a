"""``blis plan`` as a table: the candidates, ranked, and the answer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from blis_sim.report.text_columns import text_columns

if TYPE_CHECKING:
    from blis_sim.capacity.candidate import CandidatePlan
    from blis_sim.capacity.plan import Plan

_WIDTH = 100


def render_plan(plan: Plan) -> str:
    """Return a table for each model, why others carry nothing, what was done, and the answer."""
    lines: list[str] = []
    models = list(dict.fromkeys(each.candidate.model for each in plan.candidates))
    for model in models:
        own = [each for each in plan.candidates if each.candidate.model == model]
        lines += [f"{model}", *_table([each for each in own if each.rate > 0], plan)]
        lines += _without_rate([each for each in own if each.rate <= 0])
        lines.append("")
    lines += textwrap.wrap(_work(plan), _WIDTH)
    lines += _prices(plan.candidates)
    lines.append("")
    for sentence in plan.sentences():
        lines += textwrap.wrap(sentence, _WIDTH)
    return "\n".join(lines)


def _table(rows: Sequence[CandidatePlan], plan: Plan) -> Iterator[str]:
    if not rows:
        return
    paths = list(dict.fromkeys(path for row in rows for path in row.candidate.settings))
    has_target = plan.target_rate is not None
    header = ["", "GPU", "TP", *(path.rpartition(".")[2] for path in paths), "req/s", "up to"]
    header += ["replicas", "GPUs", "USD/h", "USD/M tok", "headroom"] if has_target else ["USD/h"]
    header += ["tok/s/user", "tok/s/GPU", *(limit.short() for limit in plan.limits), "binds first"]
    body = [_row(row, plan, paths, has_target=has_target) for row in rows]
    lines = text_columns([header, *body], left={0, 1, len(header) - 1})
    rule = "-" * max(map(len, lines))
    yield from (rule, lines[0], rule, *lines[1:], rule)


def _row(row: CandidatePlan, plan: Plan, paths: Sequence[str], *, has_target: bool) -> list[str]:
    candidate, found = row.candidate, row.found
    assert found is not None
    cells = ["*" if row.is_pareto else "", candidate.gpu, str(candidate.tensor_parallel_size)]
    cells += [str(candidate.settings.get(path, "-")) for path in paths]
    upper = "-" if found.upper == float("inf") else f"{found.upper:.4g}"
    cells += [f"{row.rate:.4g}", upper]
    if has_target:
        cells += [str(row.num_replicas), str(row.num_gpus), _usd(row.usd_per_hour)]
        cells += [
            _usd(row.usd_per_million_output_tokens),
            f"{100 * (row.headroom_frac or 0):.0f} %",
        ]
    else:
        price = row.usd_per_gpu_hour
        cells.append(_usd(None if price is None else price * candidate.tensor_parallel_size))
    cells += [_whole(row.tokens_per_s_per_user), _whole(row.tokens_per_s_per_gpu)]
    at_rate = found.at_rate
    for limit in plan.limits:
        value = None if at_rate is None else at_rate.values.get(limit.metric)
        if value is None:
            cells.append("-")
        else:
            cells.append(f"{100 * value:.2f} %" if limit.is_goodput else f"{value:,.0f} ms")
    return [*cells, row.binds]


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}" if value >= 1 else f"{value:.3f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _without_rate(rows: Sequence[CandidatePlan]) -> Iterator[str]:
    for row in rows:
        text = f"left out: {row.candidate.words()}: {row.reason}"
        yield from textwrap.wrap(text, _WIDTH, subsequent_indent="  ")


def _work(plan: Plan) -> str:
    most = max((row.num_simulations for row in plan.candidates), default=0)
    return (
        f"{len(plan.candidates)} candidates, {plan.num_pruned} of them dismissed without a "
        f"simulation; {plan.num_simulations} simulations (at most {most} per candidate) of "
        f"{plan.num_requests:,} requests. req/s: highest rate of a replica at which "
        "all limits are surely kept; up to: lowest at which one is surely missed. "
        "*: no candidate is both no dearer and no slower for its users."
    )


def _prices(rows: Sequence[CandidatePlan]) -> Iterator[str]:
    prices = {
        row.candidate.gpu: row.usd_per_gpu_hour for row in rows if row.usd_per_gpu_hour is not None
    }
    missing = {row.candidate.gpu for row in rows if row.rate > 0} - set(prices)
    text = ", ".join(f"{gpu} {_usd(usd)}" for gpu, usd in sorted(prices.items()))
    if text:
        yield from textwrap.wrap(
            f"prices, USD per GPU and hour (median of dated offers, or --prices): {text}", _WIDTH
        )
    if missing:
        yield from textwrap.wrap(
            f"no price is known of {', '.join(sorted(missing))}: give --prices FILE", _WIDTH
        )
