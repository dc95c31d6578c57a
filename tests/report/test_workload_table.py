from __future__ import annotations

import json

from blis_sim.report.workload_table import render_workload, workload_json
from blis_sim.workload.describe import WorkloadFigures, describe
from blis_sim.workload.observed import observe
from blis_sim.workload.request import RequestSpec


def make_figures(count: int = 3, **fields: object) -> WorkloadFigures:
    return describe(
        observe(
            RequestSpec(i, 2_000_000 * i, 1000 * (i + 1), 10)._replace(**fields)
            for i in range(count)
        )
    )


def rows_of(text: str) -> dict[str, str]:
    return {line[:40].strip(): line[40:].strip() for line in text.splitlines()}


def test_rows_show_the_figures() -> None:
    """Counts as whole numbers, rates with two decimals, thousands separated."""
    text = render_workload(make_figures(), "three requests")
    assert text.splitlines()[0] == "three requests"
    rows = rows_of(text)
    assert rows["Requests"] == "3"
    assert rows["Span (s)"] == "4.00"
    assert rows["Mean rate (req/s)"] == "0.50"
    (prompt,) = (line for line in text.splitlines() if line.startswith("Prompt"))
    assert prompt.split() == ["Prompt", "2,000.0", "2,000", "2,800", "2,980", "3,000", "6,000"]


def test_what_cannot_be_told_is_not_a_number() -> None:
    """One request has no rate, and its content is unknown."""
    rows = rows_of(render_workload(make_figures(1), "one"))
    assert rows["Mean rate (req/s)"] == "n/a"
    assert rows["CV of the gaps"].startswith("n/a")
    assert rows["Shareable prefix (% of prompt tokens)"].startswith("n/a")


def test_only_what_occurs_is_shown() -> None:
    """Sessions, groups and classes have rows where there are any."""
    plain = render_workload(make_figures(), "x")
    assert "Sessions" not in plain
    assert "Prefix groups" not in plain
    assert "By SLO class" not in plain
    full = render_workload(
        make_figures(session_id="s", prefix_group="g", prefix_tokens=100, slo_class="chat"), "x"
    )
    rows = rows_of(full)
    assert rows["Sessions"].split()[0] == "1"
    assert rows["Rounds per session"].split()[0] == "3.00"
    assert rows["Prefix groups"] == "1"
    assert "By SLO class" in full


def test_lines_fit_and_many_labels_are_cut() -> None:
    """At most 100 columns whatever the names; the 20 largest of 30 tenants are shown."""
    stream = [
        RequestSpec(i, 10 * i, 2**20, 2**20, prompt_id="p", tenant=f"{'x' * 50}-{i}")
        for i in range(30)
    ]
    text = render_workload(describe(observe(stream)), "word " * 60, ["notice " * 40])
    assert max(map(len, text.splitlines())) <= 100
    assert "and 10 more with fewer requests" in text
    assert text.splitlines()[-1].strip().startswith("notice")


def test_json_is_strict_and_complete() -> None:
    """What the load is comes first; nothing is NaN."""
    document = json.loads(workload_json(make_figures(1), {"description": "one"}))
    assert next(iter(document)) == "workload"
    assert document["workload"] == {"description": "one"}
    assert document["arrivals"]["mean_rate_per_s"] is None
    assert document["output_tokens"]["total"] == 10
