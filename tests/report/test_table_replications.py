"""The table of several replications."""

from __future__ import annotations

from blis_sim.metrics.replications import Replicated, SeedFigures, combined
from blis_sim.metrics.result import Result
from blis_sim.report.table import render_table
from blis_sim.report.table_rows import metric_row, row
from tests.metrics.builders import dropped, make_cluster_result, make_result, served


def replicated(*results: Result) -> Result:
    """Return the first result with the figures of all."""
    first = results[0]
    first.replications = combined(
        [SeedFigures(7 + n, each.summary, each.conservation) for n, each in enumerate(results)]
    )
    return first


def value(text: str, label: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{label}:")]
    return line[40:].strip()


def test_each_figure_is_a_mean_with_its_interval() -> None:
    """TTFT of 1 ms and 3 ms: 2 ± 12.706 ms; what all share is one number."""
    text = render_table(
        replicated(make_result([served(ttft_us=1000)]), make_result([served(ttft_us=3000)]))
    )
    assert value(text, "Mean TTFT (ms)") == "2.00 ± 12.71"
    assert value(text, "P99 TTFT (ms)") == "2.00 ± 12.71"
    assert value(text, "Successful requests") == "1"
    assert value(text, "KV blocks per instance") == "100"
    assert "Replications: 2 (seeds 7 to 8): mean ± half its 95 % confidence interval" in text


def test_nothing_random_is_said() -> None:
    """The same figures have no interval: the table is the usual one, with a line that says why."""
    plain = render_table(make_result())
    text = render_table(replicated(make_result(), make_result()))
    added = [line for line in text.splitlines() if line not in plain.splitlines()]
    assert " ".join(line.strip() for line in added) == (
        "Replications: 2 (seeds 7 to 8) gave the same figures: nothing in this scenario is random"
    )
    assert "±" not in text


def test_some_replications_without_data() -> None:
    """How many have data stands beside; where one alone has, there is no interval."""
    text = render_table(replicated(make_result([served(ttft_us=1000)]), make_result([dropped()])))
    assert value(text, "Mean TTFT (ms)") == "1.00 (1 of 2)"
    assert value(text, "Mean TPOT (ms)") == "n/a"
    assert value(text, "Dropped") == "0.50 ± 6.35"
    assert row("x", Replicated((1.0, 3.0, None))).endswith(" 2.00 ± 12.71 (2 of 3)")


def test_fractions_and_small_costs() -> None:
    """Fractions are in percent; a cost below 1 has three significant digits of its mean."""
    figures = {"gpu_busy_frac": Replicated((0.4, 0.6)), "cost_usd": Replicated((0.01, 0.03))}
    assert metric_row(figures, "gpu_busy_frac").endswith(" 50.00 ± 127.06")
    assert metric_row(figures, "cost_usd").endswith(" 0.0200 ± 0.1271")


def test_reasons_are_of_the_first_seed() -> None:
    """They are words, and have no mean."""
    first = make_result([dropped(), served(ttft_us=1000)])
    text = render_table(replicated(first, make_result([served(), served()])))
    lines = text.splitlines()
    place = lines.index("with the first seed, 7:")
    assert lines[place + 1].startswith("1 x prompt_tokens 9000")


def test_parts_of_a_cluster_are_of_the_first_seed() -> None:
    """The rows of the whole are means."""
    cluster = make_cluster_result()
    other = make_cluster_result()
    first = replicated(cluster, other)
    figures = dict(first.replications.metrics) | {"jain_instances": Replicated((0.5, 1.0))}  # type: ignore[union-attr]
    first.replications = type(first.replications)((7, 8), figures, {})  # type: ignore[misc]
    text = render_table_of(first)
    assert "with the first seed, 7:" in text.splitlines()
    assert value(text, "Jain index of instances (requests)") == "0.75 ± 3.18"


def render_table_of(result: Result) -> str:
    """Return the rows of the cluster as text."""
    from blis_sim.report.cluster_table import cluster_rows
    from blis_sim.report.table_rows import shown

    assert result.replications is not None
    return "\n".join(cluster_rows(result, shown(result.replications.metrics)))
