"""What is wrong with the settings of lengths, or with a file of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from blis_sim.config.lengths import LengthKind, LengthSettings
from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream
from blis_sim.workload import empirical
from blis_sim.workload.lengths import Lengths, open_lengths

PARETO = {"mu": 4, "sigma": 1, "pareto_alpha": 1, "pareto_min": 9, "pareto_share": 0.1}


def make(form: Any = None, **fields: Any) -> Lengths:
    where = "workload.prompt"
    return open_lengths(where, LengthSettings.model_validate(fields if form is None else form))


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt.mean (tokens) must be set with kind normal; got nothing"),
    ({"mean": 5, "min": 9, "max": 3}, "prompt.min must be <= prompt.max (3 tokens); got 9"),
    (
        {"mean": 50, "max": 40},
        "prompt.mean must be between prompt.min and prompt.max (1 and 40 tokens); got 50; move "
        "the mean or the bound",
    ),
    ({"mean": 0}, "prompt.mean must be between prompt.min and prompt.max (1 and 2147483647 "),
    ({"mean": 5, "max": 2**31}, "prompt.max must be <= 2147483647 tokens; got 2147483648"),
    ({"kind": "constant"}, "prompt.mean (tokens) must be set with kind constant; got nothing"),
    ({"kind": "constant", "mean": 9, "max": 5}, "prompt.mean must be between prompt.min and"),
    ({"kind": "uniform"}, "prompt.max (tokens) must be set with kind uniform; got nothing"),
    ({"kind": "exponential"}, "prompt.mean (tokens) must be set with kind exponential; got"),
    ({"kind": "exponential", "mean": 0.5}, "prompt.mean must be between prompt.min and"),
    (
        {"kind": "lognormal"},
        "prompt.mean and prompt.stdev must be set with kind lognormal, or prompt.mu and "
        "prompt.sigma; got nothing",
    ),
    ({"kind": "lognormal", "mean": 5}, "prompt.stdev (tokens) must be set with kind lognormal"),
    ({"kind": "lognormal", "stdev": 5}, "prompt.mean (tokens) must be set with kind lognormal"),
    ({"kind": "lognormal", "mu": 5}, "prompt.sigma must be set with kind lognormal; got nothing"),
    ({"kind": "lognormal", "sigma": 5}, "prompt.mu must be set with kind lognormal; got nothing"),
    (
        {"kind": "lognormal", "mean": 5, "stdev": 1, "sigma": 5},
        "prompt.sigma must not be set together with prompt.mean; got 5; give mean and stdev of "
        "the lengths or mu and sigma of their logarithms",
    ),
    (
        {"kind": "lognormal", "mean": 0, "stdev": 1, "min": 0},
        "prompt.mean must be > 0 tokens with kind lognormal; got 0",
    ),
    (
        {"kind": "lognormal", "mean": 1, "stdev": 1e10},
        "prompt.stdev must be <= 1e+09 times prompt.mean (1 tokens) with kind lognormal; got 1e",
    ),
    (
        {"kind": "lognormal", "mu": 512, "sigma": 1, "max": 1000},
        "prompt.mu must be <= log(prompt.max) (6.908); got 512: more than half of the lengths",
    ),
    ({"kind": "lognormal", "mu": 0, "sigma": 1, "min": 0, "max": 0}, "prompt.mu must be <= log("),
    *(
        (
            {"kind": "pareto_lognormal", **{k: v for k, v in PARETO.items() if k != name}},
            f"prompt.{name} ",
        )
        for name in PARETO
    ),
    (
        {"kind": "pareto_lognormal", **PARETO, "max": 8},
        "prompt.mu must be <= log(prompt.max) (2.079); got 4",
    ),
    (
        {"kind": "pareto_lognormal", **PARETO, "mu": 1, "max": 8},
        "prompt.pareto_min must be <= prompt.max (8 tokens); got 9",
    ),
    ({"kind": "empirical"}, "prompt must have either values or file with kind empirical; got nei"),
    ({"kind": "empirical", "values": [1], "file": "x"}, "prompt must have either values or file "),
    ({"kind": "empirical", "values": []}, "prompt.values must have at least one length; got an e"),
    (
        {"kind": "empirical", "values": [1, -1]},
        "prompt.values[1] must be between 0 and 2147483647",
    ),
    (
        {"kind": "empirical", "values": [2**31]},
        "prompt.values[0] must be between 0 and 2147483647",
    ),
    (
        {"kind": "empirical", "values": [4, 0]},
        "prompt.values must have lengths >= prompt.min (1 tokens); got 0; set prompt.min to 0 to "
        "keep it, to 1 to raise it",
    ),
    (
        {"kind": "empirical", "values": [1, 2], "weights": [1]},
        "prompt.weights must be one weight for each of prompt.values (2); got 1",
    ),
    ({"kind": "empirical", "values": [1], "weights": [-1]}, "prompt.weights[0] must be >= 0 and"),
    (
        {"kind": "empirical", "values": [1, 2], "weights": [1, float("nan")]},
        "prompt.weights[1] must be >= 0 and finite; got nan",
    ),
    (
        {"kind": "empirical", "values": [1], "weights": [0]},
        "prompt.weights must have a sum > 0; g",
    ),
    (
        {"kind": "empirical", "file": "x", "weights": [1]},
        "prompt.weights must not be set with prompt.file; got 1 entries; write length,weight",
    ),
    ({"kind": "mixture"}, "prompt.parts must have at least one distribution; got nothing"),
    ({"kind": "mixture", "parts": []}, "prompt.parts must have at least one distribution; got an"),
    (
        {"kind": "mixture", "parts": [9, {"mean": 5}, {"kind": "mixture", "parts": ["3", {}]}]},
        "prompt.parts[2].parts[1].mean (tokens) must be set with kind normal; got nothing",
    ),
    (
        {"kind": "mixture", "parts": [{"mean": 5, "min": 0}]},
        "prompt.parts[0].min must be >= prompt.min (1 tokens); got 0; lower prompt.min",
    ),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[f"{m} {f}"[:80] for f, m in BAD])
def test_settings_that_contradict_are_one_clear_line(fields: dict[str, Any], message: str) -> None:
    """What is missing, out of range or contradictory is named with its path and value."""
    with pytest.raises(ConfigError, match="must") as caught:
        make(**fields)
    assert str(caught.value).replace("workload.prompt", "prompt").startswith(message)
    assert "\n" not in str(caught.value)


VALUES: dict[str, tuple[Any, str]] = {
    "mean": (5.5, "5.5"),
    "stdev": (0.0, "0"),
    "mu": (1.0, "1"),
    "sigma": (0.5, "0.5"),
    "pareto_alpha": (2.0, "2"),
    "pareto_min": (3.0, "3"),
    "pareto_share": (0.0, "0"),
    "values": ((1, 2), "2 entries"),
    "weights": ((1.0,), "1 entries"),
    "file": ("a.txt", "a.txt"),
    "parts": ((), "0 entries"),
}
USED: dict[str, set[str]] = {
    "constant": {"mean"},
    "normal": {"mean", "stdev"},
    "lognormal": {"mean", "stdev", "mu", "sigma"},
    "uniform": set(),
    "exponential": {"mean"},
    "pareto_lognormal": set(PARETO),
    "empirical": {"values", "weights", "file"},
    "mixture": {"parts"},
}


@pytest.mark.parametrize("kind", list(LengthKind))
def test_settings_of_another_kind_are_refused(kind: str) -> None:
    """A setting that the kind cannot use is an error, also when it is 0 or empty."""
    for field in set(VALUES) - USED[kind]:
        value, shown = VALUES[field]
        with pytest.raises(ConfigError, match="must not be set") as caught:
            make(kind=kind, **{field: value})
        assert str(caught.value) == (
            f"workload.prompt.{field} must not be set with kind {kind}; got {shown}; leave it out"
        )


def test_the_remedy_names_the_kinds_when_none_was_given() -> None:
    """Who forgot the kind is told which kinds use the setting."""
    expected = "leave it out or set workload.prompt.kind to lognormal or pareto_lognormal"
    with pytest.raises(ConfigError, match=f"with kind normal; got 0.5; {expected}$"):
        make(mean=3, sigma=0.5)


@pytest.mark.parametrize("kind", list(LengthKind))
def test_null_is_the_same_as_absent(kind: str) -> None:
    """Settings written out with nulls, as a manifest has them, describe the same lengths."""
    needs: dict[str, dict[str, Any]] = {
        "uniform": {"max": 80},
        "lognormal": {"mu": 4, "sigma": 1},
        "pareto_lognormal": PARETO,
        "empirical": {"values": [5, 6]},
        "mixture": {"parts": ["5:1|9:2"]},
    }
    short = LengthSettings(kind=kind, **needs.get(kind, {"mean": 50}))
    written = LengthSettings(**short.model_dump())
    drawn = [
        open_lengths("x", s).draw(named_stream(1, "x"), 50).tolist() for s in (short, written)
    ]
    assert drawn[0] == drawn[1]


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "lengths.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "values", "weights"),
    [
        ("5\n7\n\n# a comment\n  5  # chat\r\n", [5, 7], [2, 1]),
        ("\ufeff10,0.5\n20 , 1.5\n10,1e0\n30,0", [10, 20], [1.5, 1.5]),
        ("0007,.5", [7], [1]),
    ],
)
def test_a_file_of_lengths_is_read(
    tmp_path: Path, text: str, values: list[int], weights: list[float]
) -> None:
    """One length or length,weight per line; comments and blank lines are passed over."""
    found = empirical.read_lengths(write(tmp_path, text))
    assert found.values.tolist() == values
    assert found.shares.tolist() == pytest.approx([w / sum(weights) for w in weights])


def test_a_file_gives_the_lengths_of_its_values(tmp_path: Path) -> None:
    """A file and the same values inline are the same distribution, whatever the order."""
    path = write(tmp_path, "9000\n3\n3\n512\n")
    inline = make(kind="empirical", values=[3, 512, 9000, 3], max=4096)
    of_file = make(kind="empirical", file=path, max=4096)
    assert of_file.max_tokens == 4096
    assert str(of_file) == "empirical from lengths.txt 3..4096 tokens"
    draws = [lengths.draw(named_stream(1, "x"), 200).tolist() for lengths in (inline, of_file)]
    assert draws[0] == draws[1]


BAD_FILES: list[tuple[str | bytes, str]] = [
    ("", ": file must have at least one length; got none"),
    ("# nothing\n\n", ": file must have at least one length; got none"),
    ("5\nx\n", ":2: length must be a whole number of tokens from 0 to 2147483647; got 'x'"),
    ("5\n\n-1\n", ":3: length must be a whole number of tokens from 0 to 2147483647; got '-1'"),
    ("5.5", ":1: length must be a whole number of tokens from 0 to 2147483647; got '5.5'"),
    ("2147483648", ":1: length must be a whole number of tokens from 0 to 2147483647; got '214"),
    ("9" * 5000, ":1: length must be a whole number of tokens from 0 to 2147483647; got '9999"),
    ("\u0665", ":1: length must be a whole number of tokens from 0 to 2147483647; got '\u0665'"),
    ("length,weight\n", ":1: length must be a whole number of tokens from 0 to 2147483647; got"),
    (b"5\n\xff\n", r":2: length must be a whole number of tokens from 0 to 2147483647; got '\udc"),
    ("5,1\n6\n", ":2: line must be length,weight like those before it; got '6'"),
    ("5\n6,2\n", ":2: line must be a length alone like those before it; got '6,2'"),
    ("5,\n", ":1: weight must be a finite number >= 0; got ''"),
    ("5,1,2\n", ":1: weight must be a finite number >= 0; got '1,2'"),
    ("5,-1\n", ":1: weight must be a finite number >= 0; got '-1'"),
    ("5,nan\n", ":1: weight must be a finite number >= 0; got 'nan'"),
    ("5,1e999\n", ":1: weight must be a finite number >= 0; got '1e999'"),
    ("5,0\n6,0\n", ": weights must have a finite sum > 0; got 0"),
    ("5,1e308\n5,1e308\n", ": weights must have a finite sum > 0; got inf"),
    ("0\n", " must have lengths >= workload.prompt.min (1 tokens); got 0; set"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES, ids=[m for _, m in BAD_FILES])
def test_a_malformed_file_is_one_clear_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    """Path, line, what must be there, and what is there."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match="^" + re.escape(f"{path}{message}")) as caught:
        make(kind="empirical", file=path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200
    str(caught.value).encode()  # can be printed


def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file, a folder and a file beyond the limit are named as such."""
    with pytest.raises(ConfigError, match=r"no\.txt: file of lengths must be readable; got: No s"):
        make(kind="empirical", file=tmp_path / "no.txt")
    with pytest.raises(ConfigError, match=r"must be readable; got: Is a directory"):
        make(kind="empirical", file=tmp_path)
    monkeypatch.setattr(empirical, "_MAX_BYTES", 9)
    assert make(kind="empirical", file=write(tmp_path, "512\n1024\n")).max_tokens == 1024
    with pytest.raises(ConfigError, match=r"must have at most 9 bytes; got more; write equal"):
        make(kind="empirical", file=write(tmp_path, "512\n10244\n"))
