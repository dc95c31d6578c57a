from __future__ import annotations

from typing import Any

import pytest

from blis_sim.capacity.grid import MOST_POINTS, axis, grid_points, parse_axis, split_list
from blis_sim.config.draft import ScenarioDraft
from blis_sim.errors import ConfigError
from blis_sim.workload.stream import open_workload


def draft(**values: Any) -> ScenarioDraft:
    return ScenarioDraft({"hardware": "H100", "workload": {"num_requests": 5}} | values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1", (1,)),
        ("a.b=2:8", (2, 3, 4, 5, 6, 7, 8)),
        ("a.b=2:40:19", (2, 21, 40)),
        ("a.b=2:10:3", (2, 5, 8)),
        ("a.b=0:1:0.1", (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)),
        ("a.b=0.3:0.9:0.3", (0.3, 0.6, 0.9)),
        ("a.b=-2:2:2", (-2, 0, 2)),
        ("a.b=5:5:1", (5,)),
        ("a.b=1e3:3e3:1e3", (1000, 2000, 3000)),
        ("a.b=128:8192:x4", (128, 512, 2048, 8192)),
        ("a.b=128:8191:x2", (128, 256, 512, 1024, 2048, 4096)),
        ("a.b=1:100:x10", (1, 10, 100)),
        ("a.b=0.5:8:x2", (0.5, 1, 2, 4, 8)),
        ("a.b=1,5,10:30:10", (1, 5, 10, 20, 30)),
        ("a.b=1,2:3,2,3.0", (1, 2, 3)),
        ("a.b=true,1,false,0", (True, 1, False, 0)),
        ("a.b=H100, L40S", ("H100", "L40S")),
        ("a.b=null,auto", (None, "auto")),
        ("a.b=[1,2],[3,4]", ([1, 2], [3, 4])),
        ("a.b={x: 1, y: [2, 3]},{x: 4}", ({"x": 1, "y": [2, 3]}, {"x": 4})),
        ("a.b='1,2',\"3,4\"", ("1,2", "3,4")),
        ("a.b=10:30", tuple(range(10, 31))),
        ("a-b.c-d=x-y", ("x-y",)),
    ],
)
def test_values(text: str, values: tuple[Any, ...]) -> None:
    """Lists, ranges with both ends, factors; each value once, and of the type it is written."""
    parsed = parse_axis(text)
    assert parsed.path == text.partition("=")[0].replace("-", "_")
    assert parsed.values == values
    assert [*map(type, parsed.values)] == [
        type(found) if isinstance(value, int) and isinstance(found, float) else type(value)
        for found, value in zip(parsed.values, values, strict=True)
    ]


def test_whole_numbers_stay_whole() -> None:
    """2:8:2 can be a number of sequences; a range with a fraction in it is of fractions."""
    assert [type(value) for value in parse_axis("a=2:6:2").values] == [int, int, int]
    assert [type(value) for value in parse_axis("a=1:2:0.5").values] == [float, float, float]


def test_a_long_list_is_read_at_once() -> None:
    """Not in the square of its length."""
    assert len(parse_axis(f"seed=1:{MOST_POINTS}").values) == MOST_POINTS


def test_names_of_values() -> None:
    """What is no single value is called by its number."""
    assert axis("a", [1, "x", None, True, [1, 2], {"b": 1}]).names == (
        *(1, "x", None, True),
        *("no. 5", "no. 6"),
    )


def test_brackets_and_quotes_hold_commas_together() -> None:
    assert list(split_list("a,[b,{c,d}],'e,f', g")) == ["a", "[b,{c,d}]", "'e,f'", "g"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.b", r"^--grid must have the form a\.b=v1,v2 or .*; got 'a\.b'$"),
        ("=1", r"^--grid must have the form .*; got '=1'$"),
        ("a=", r"^--grid must have the form .*; got 'a='$"),
        ("a=1,,2", r"^--grid must have the form .*; got 'a=1,,2'$"),
        ("a=9:2", r"^--grid range must go up, .*; got 9:2$"),
        ("a=1:9:0", r"^--grid range must go up, .*; got 1:9:0$"),
        ("a=1:9:-2", r"^--grid range must go up, .*; got 1:9:-2$"),
        ("a=1:9:x1", r"^--grid range must go up, .* factor above 1 .*; got 1:9:x1$"),
        ("a=0:9:x2", r"^--grid range must go up, .* FROM above 0; got 0:9:x2$"),
        ("a=1:1e9", r"^--grid range must have at most 100,000 values; got 1:1e9$"),
        (
            "a=1:1e9:x1.0001",
            r"^--grid range must have at most 100,000 values; got 1:1e9:x1\.0001$",
        ),
        ("a=1:60000,70000:140000", r"^--grid a must have at most 100,000 values; got more$"),
        ("a=[1,2", r"^--grid .*\[1,2"),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_axis(text)


@pytest.mark.parametrize("values", [[], "H100"])
def test_an_axis_needs_a_list(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"^grid hardware must have a list of values, at least"):
        axis("hardware", values)


# -- points ---------------------------------------------------------------------


def test_every_combination_in_order() -> None:
    """The first axis changes slowest; a value of the file is replaced."""
    axes = [axis("hardware", ["H100", "L40S"]), axis("engine.max_num_seqs", [8, 16])]
    points = grid_points(draft(), axes)
    assert [dict(point.labels) for point in points] == [
        {"hardware": "H100", "engine.max_num_seqs": 8},
        {"hardware": "H100", "engine.max_num_seqs": 16},
        {"hardware": "L40S", "engine.max_num_seqs": 8},
        {"hardware": "L40S", "engine.max_num_seqs": 16},
    ]
    for point in points:
        assert point.scenario.hardware == point.labels["hardware"]
        assert point.scenario.engine.max_num_seqs == point.labels["engine.max_num_seqs"]


def test_no_axes_are_one_point() -> None:
    (point,) = grid_points(draft(), [])
    assert point.labels == {}


def test_replications_change_only_the_seed() -> None:
    """Seeds one after the other; the same requests for all values of a replication."""
    points = grid_points(
        draft(seed=7), [axis("hardware", ["H100", "L40S"])], num_replications=3, labels={"x": "y"}
    )
    assert [point.labels["replication"] for point in points] == [0, 1, 2, 0, 1, 2]
    assert [point.scenario.seed for point in points] == [7, 8, 9, 7, 8, 9]
    assert {point.labels["x"] for point in points} == {"y"}
    without_seed = [point.scenario.model_dump(exclude={"seed"}) for point in points]
    assert without_seed[0] == without_seed[1] == without_seed[2] != without_seed[3]
    written = points[1].scenario.model_dump(exclude_unset=True)
    assert written["seed"] == 8
    loads = [list(open_workload(p.scenario.workload, p.scenario.seed)) for p in points]
    assert loads[0] == loads[3] != loads[1] == loads[4]


def test_the_draft_is_not_changed() -> None:
    common = draft()
    grid_points(common, [axis("hardware", ["L40S"])], num_replications=2)
    assert common.build() == draft().build()


def test_a_setting_has_one_axis() -> None:
    axes = [axis("hardware", ["H100"]), axis("seed", [1]), axis("hardware", ["L40S"])]
    with pytest.raises(ConfigError, match=r"^--grid must name a setting once; got hardware 2 t"):
        grid_points(draft(), axes)


def test_a_setting_that_a_flag_sets_has_no_axis() -> None:
    common = draft()
    common.set("hardware", "L40S", "--hardware")
    message = "^--grid must name a setting that nothing else sets; got hardware, set by --hardware"
    with pytest.raises(ConfigError, match=message):
        grid_points(common, [axis("hardware", ["H100"])])


def test_an_unknown_setting_has_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^--grid engine\.max_num_seq must .*max_num_seqs"):
        grid_points(draft(), [axis("engine.max_num_seq", [1])])


def test_a_value_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"^--grid engine\.max_num_seqs must be .*; got -3"):
        grid_points(draft(), [axis("engine.max_num_seqs", [8, -3])])


def test_too_many_points() -> None:
    """Before any is made."""
    axes = [axis("seed", range(1000)), axis("engine.max_num_seqs", range(1, 1001))]
    message = "^a study must have at most 100,000 points; got 1,000,000; take fewer"
    with pytest.raises(ConfigError, match=message):
        grid_points(draft(), axes)
