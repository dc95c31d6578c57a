"""The table of a plan."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from blis_sim.capacity.candidate import CandidatePlan, PlanCandidate, Verification
from blis_sim.capacity.plan import Plan
from blis_sim.capacity.search import FoundRate, Measurement, Probe, Verdict
from blis_sim.capacity.slo import parse_slo
from blis_sim.config.scenario import Scenario
from blis_sim.report.plan_table import MAX_WIDTH, WIDTH, render_plan

LIMITS = parse_slo("p99_ttft_ms:500,p95_itl_ms:50")
PRICE = {"gpu": "H100", "usd_per_gpu_hour": 3.99, "num_offers": 3}
SOURCES = ["one, 2026-05", "two, 2026-02", "three, 2026-05"]


def make_row(
    gpu: str = "H100",
    rate: float = 12.345,
    *,
    usd: float | None = 3.99,
    target: float | None = 40.0,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> CandidatePlan:
    values = {"p99_ttft_ms": 412.4, "p95_itl_ms": 44.26, "goodput_frac": 0.9912}
    at_rate = Measurement(probe=Probe(rate or 1.0, 9), values=values)
    found = FoundRate(
        rate=rate, upper=1.04 * rate, at_rate=at_rate, at_upper=at_rate, measurements=(at_rate,)
    )
    given: dict[str, Any] = {
        "candidate": PlanCandidate(Scenario(), "meta-llama/Llama-9", gpu, settings or {}),
        "found": found,
        "binds": "p95 ITL (bandwidth)",
        "metrics": {"mean_tpot_ms": 25.0},
        "usd_per_gpu_hour": usd,
        "output_tokens": 256.0,
        "num_simulations": 9,
        "rank": 1,
    }
    row = CandidatePlan(**given | changes)
    if target is None or rate <= 0:
        return row
    return row.with_replicas(math.ceil(target / rate), target)


def make_plan(*rows: CandidatePlan, **changes: Any) -> Plan:
    given: dict[str, Any] = {
        "limits": LIMITS,
        "target_rate": 40.0,
        "load": "chatbot: poisson arrivals",
        "candidates": rows or (make_row(),),
        "num_simulations": 9,
        "num_requests": 123_456,
        "prices": ({**PRICE, "sources": SOURCES},),
    }
    return Plan(**given | changes)


def test_a_plan_in_full() -> None:
    """Header, a row, what the columns mean, what was done, prices with dates, the answer."""
    rows = (make_row(is_pareto=True), make_row("L40S", 4.0, usd=None, rank=2))
    verification = Verification(
        model="meta-llama/Llama-9",
        num_replicas=4,
        num_planned=4,
        num_requests=9,
        values={"p99_ttft_ms": 402.1, "p95_itl_ms": 41.0},
        limits=LIMITS,
        verdict=Verdict.KEPT,
    )
    text = render_plan(make_plan(*rows, verifications=(verification,), num_pruned=1))
    assert text == EXPECTED


EXPECTED = """\
load: chatbot: poisson arrivals

meta-llama/Llama-9
-------------------------------------------------------------------------------------------------------------
   GPU   TP   rate  up to  repli-  GPUs    USD  USD per  head-  tok/s  tok/s   p99   p95  binds first
             req/s  req/s     cas        per h   M out-   room    per    per  TTFT   ITL
                                                put tok          user    GPU    ms    ms
-------------------------------------------------------------------------------------------------------------
*  H100   1  12.35  12.84       4     4  15.96    0.433   19 %     40  3,160   412  44.3  p95 ITL (bandwidth)
   L40S   1      4   4.16      10    10      -        -    0 %     40  1,024   412  44.3  p95 ITL (bandwidth)
-------------------------------------------------------------------------------------------------------------

rate: the most requests/s at which a replica surely keeps all limits, its figures there; up to: the
  fewest at which it surely misses one
*: no candidate is both no dearer and no slower for a user, each at its own rate
2 candidates, 1 dismissed without a simulation; 9 simulations, at most 9 of a candidate, 123,456
requests
USD per GPU and hour: H100 3.99 (median of 3, 2026-02 to 2026-05)
no price is known of L40S: give --prices FILE

Llama-9 at 40 requests/s: 4 x H100 TP 1 (4 GPUs, 15.96 USD/h, 0.433 USD per million output tokens)
with 19 % headroom; p95 ITL (bandwidth) binds first; simulated as a whole: p99 TTFT 402.1 of 500 ms,
p95 ITL 41 of 50 ms, kept."""  # noqa: E501 (tables are wider than code)


def test_without_a_target_there_are_no_replicas() -> None:
    """A replica's cost stands in their place."""
    rows = (make_row(target=None), make_row("T4", 2.0, usd=None, target=None))
    text = render_plan(make_plan(*rows, target_rate=None))
    assert "repli-" not in text
    assert "headroom" not in text
    assert "no price is known of T4: give --prices FILE" in text
    assert "carries 12.3 requests/s within p99 TTFT <= 500 ms" in text


def test_how_well_the_winner_is_known() -> None:
    """Its line is the last one; where nothing is known there is none."""
    plan = make_plan(make_row(is_pareto=True, accuracy="validated: TTFT ±9 %"))
    assert render_plan(plan).endswith("\naccuracy at the highest rate: validated: TTFT ±9 %")
    assert plan.to_json_dict()["candidates"][0]["accuracy"] == "validated: TTFT ±9 %"
    assert "accuracy" not in render_plan(make_plan(make_row(is_pareto=True)))


def test_reasons_are_said_once() -> None:
    """Those that carry nothing have no row; those for the same reason share a line."""
    none = make_row("L4", 0.0, reason="the weights do not fit", rank=None)
    other = make_row("T4", 0.0, reason="the weights do not fit", rank=None)
    late = make_row("A10", 0.0, reason="too late", rank=None)
    text = render_plan(make_plan(make_row(), none, other, late))
    assert "left out: L4 TP 1; T4 TP 1: the weights do not fit" in text
    assert "left out: A10 TP 1: too late" in text
    nothing = render_plan(make_plan(none))
    assert "no candidate was found to keep p99 TTFT <= 500 ms, p95 ITL <= 50 ms" in nothing
    assert "replica surely keeps" not in nothing
    assert "---" not in nothing


def test_what_costs_ten_times_as_much_is_named() -> None:
    """Hundreds of replicas are no row; what has no price is one."""
    rows = (make_row(), make_row("A10", 4.0, usd=None), make_row("L40S", 0.1, usd=1.0))
    text = render_plan(make_plan(*rows))
    assert "not shown, above 10 times the cost of the first: L40S TP 1" in text
    assert " 400 " not in text
    assert "A10" in text


def test_a_long_table_ends() -> None:
    rows = tuple(make_row(settings={"engine.max_num_seqs": number}) for number in range(1, 60))
    text = render_plan(make_plan(*rows))
    assert "19 more rows: --csv FILE has all" in text
    assert len(text.splitlines()) < 70


def test_each_model_has_a_table() -> None:
    """And a sentence."""
    other = PlanCandidate(Scenario(), "Qwen/Qwen-9", "H100")
    text = render_plan(make_plan(make_row(), replace(make_row(), candidate=other)))
    assert text.splitlines().count("Qwen/Qwen-9") == 1
    assert "Qwen-9 at 40 requests/s:" in text
    assert "Llama-9 at 40 requests/s:" in text


def test_a_table_is_as_wide_as_a_window() -> None:
    """What does not fit is left out and named, the least needed first; text is narrower."""
    limits = parse_slo(
        "p99_ttft_ms:500,p95_itl_ms:50,p99_e2el_ms:9000,mean_tpot_ms:40,p50_itl_ms:9"
    )
    settings = {"engine.max_num_batched_tokens": 16384, "engine.max_num_seqs": 256}
    binds = "p99 TTFT (max_num_seqs 1024)"
    rows = [make_row(gpu, settings=settings, binds=binds) for gpu in ("H100", "RTX-PRO-6000")]
    lines = render_plan(make_plan(*rows, limits=limits)).splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("---")]
    table = lines[rules[0] : rules[-1] + 1]
    assert max(map(len, table)) <= MAX_WIDTH
    assert max(len(line) for line in lines if line not in table) <= WIDTH
    (left_out,) = (line for line in lines if line.startswith("left out for its width"))
    assert left_out.startswith("left out for its width: tok/s per GPU, USD per M output tok, ")
    assert {"max_", "num_", "batched_tokens", "seqs"} <= set(" ".join(table[1:4]).split())


def test_conversations_and_goodput() -> None:
    """What a rate counts, and a share of good requests."""
    plan = make_plan(limits=parse_slo("goodput:99%"), unit="conversations")
    text = render_plan(plan)
    assert "conv/s" in text
    assert "99.12 %" in text
    assert "the most conversations/s at which" in text
    assert "at 40 conversations/s:" in text


def test_a_wide_range_says_how_to_narrow_it() -> None:
    """Above a tenth: what was found may be far below what the candidate carries."""
    row = make_row()
    assert row.found is not None
    assert "may carry" not in render_plan(make_plan(row))
    wide = replace(row, found=replace(row.found, upper=1.22 * row.rate))
    text = " ".join(render_plan(make_plan(wide)).split())
    assert "H100 TP 1 may carry up to 22 % more than its rate: four times the --max-" in text
    open_end = replace(row, found=replace(row.found, upper=math.inf, at_upper=None))
    text = " ".join(render_plan(make_plan(open_end)).split())
    assert "H100 TP 1 may carry more: the search ended after 9 simulations" in text
    assert "no limit was reached" in text


def test_no_upper_end_is_a_dash() -> None:
    row = make_row()
    assert row.found is not None
    open_end = replace(row, found=replace(row.found, upper=math.inf, at_upper=None))
    lines = render_plan(make_plan(open_end)).splitlines()
    (line,) = (each for each in lines if each.lstrip().startswith("H100   "))
    assert line.split()[:4] == ["H100", "1", "12.35", "-"]
