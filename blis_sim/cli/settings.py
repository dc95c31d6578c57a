"""What the flags of ``blis run`` do to the scenario."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.cli.values import duration_s
from blis_sim.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from blis_sim.cli.flags import Typed
    from blis_sim.config.draft import ScenarioDraft
    from blis_sim.config.scenario import Scenario

_TRACES = "traces"
_GOODPUT = {"ttft": "ttft_ms", "tpot": "tpot_ms", "e2el": "e2el_ms"}
_US_PER_S = 1_000_000
_DATASETS = ("sharegpt", "burstgpt")


class Settings:
    """A scenario in the making, from a file and from flags.

    Attributes
    ----------
    draft : ScenarioDraft
        The settings so far.
    notices : list of str
        How flags were read, where that is not obvious.
    """

    def __init__(self, draft: ScenarioDraft) -> None:
        self.draft = draft
        self.notices: list[str] = []
        self.needs_trace = ""
        self.range_ratio: tuple[str, float] | None = None
        self.split: dict[str, int] = {}
        """Instances by role, where flags split them into prefill and decode pools."""

    def apply(self, typed: Sequence[Typed]) -> None:
        """Set what the flags say, over the file.

        Raises
        ------
        ConfigError
            A value cannot be read, or two flags contradict each other.
        """
        for flag, name, value in typed:
            if flag.apply is not None:
                flag.apply(self, value, name)
            elif flag.path and flag.is_switch:
                is_on = name not in flag.off_names
                self.draft.set(flag.path, flag.value if is_on else not flag.value, name)
            elif flag.path:
                self.draft.set(flag.path, flag.parse(value, name), name)
        if self.range_ratio is not None:
            self._spread_lengths(*self.range_ratio)
        if any(self.split.values()):
            from blis_sim.cli.cluster_settings import split_instances

            split_instances(self.draft, self.split)
        if self.needs_trace and self.draft.get("workload.trace") is None:
            raise ConfigError(
                f"{self.needs_trace} must come with the trace; got none; add "
                "--workload-traces-filepath FILE"
            )

    def _spread_lengths(self, name: str, ratio: float) -> None:
        """Draw lengths evenly around the constant ones, as ``vllm bench serve`` does."""
        for part in ("workload.prompt", "workload.output"):
            mean = self.draft.get(f"{part}.mean")
            try:
                tokens = float(mean)
            except (TypeError, ValueError):
                raise ConfigError(
                    f"{name} must come with constant lengths; got {ratio:g} alone; add "
                    "--dataset-name random, --random-input-len and --random-output-len"
                ) from None
            low, high = math.floor(tokens * (1 - ratio)), math.ceil(tokens * (1 + ratio))
            self.draft.replace(part, {"kind": "uniform", "min": max(low, 1), "max": high})

    def build(self) -> Scenario:
        """Return the scenario; ConfigError when a setting is wrong."""
        return self.draft.build()


def read_draft(
    scenario: Path | None, overrides: Iterable[str], policies: Path | None = None
) -> Settings:
    """Return the settings of ``--scenario``, ``--policy-config`` and ``--set``; the last wins.

    Raises
    ------
    ConfigError
        A file or an override is wrong.
    """
    from blis_sim.catalog.locate import locate
    from blis_sim.config.draft import ScenarioDraft
    from blis_sim.config.loading import apply_overrides

    notices: list[str] = []
    draft = ScenarioDraft()
    if scenario is not None:
        located = locate(scenario)
        notices += filter(None, [located.notice])
        draft = ScenarioDraft.from_file(located.path)
    if policies is not None:
        located = locate(policies)
        notices += filter(None, [located.notice])
        draft.include_policies(located.path)
    apply_overrides(draft, overrides)
    settings = Settings(draft)
    settings.notices = notices
    return settings


def apply_workload(settings: Settings, value: str, name: str) -> None:
    """``--workload``: a preset, or ``traces``."""
    word = value.strip().lower()
    if word == _TRACES:
        settings.needs_trace = f"{name} {word}"
        return
    known = ("chatbot", "contentgen", "summarization", "multidoc", "distribution")
    if word not in known:
        raise ConfigError(unknown_name(name, value, (*known, _TRACES)))
    settings.draft.set("workload.preset", word, name)


def apply_goodput(settings: Settings, value: str, name: str) -> None:
    """``--goodput``: limits such as ``ttft:500 tpot:50``, milliseconds."""
    for pair in re.split(r"[,\s]+", value.strip()):
        metric, colon, limit = pair.partition(":")
        if not colon:
            raise ConfigError(
                f"{name} must be limits in ms such as ttft:500 tpot:50 e2el:5000; got {value!r}"
            )
        if metric not in _GOODPUT:
            raise ConfigError(unknown_name(name, metric, _GOODPUT))
        settings.draft.set(f"slo.{_GOODPUT[metric]}", limit, f"{name} {metric}")


def apply_horizon(settings: Settings, value: str, name: str) -> None:
    """``--horizon``: a time with its unit; a bare number is BLIS's microseconds."""
    apply_microseconds("horizon_s", settings, value, name)


def apply_microseconds(path: str, settings: Settings, value: str, name: str) -> None:
    """Set a time in seconds; a bare number is BLIS's microseconds."""
    if re.fullmatch(r"\d+", value.strip()):
        seconds = int(value) / _US_PER_S
        if seconds:
            settings.notices.append(f"{name} {value} is read as microseconds: {seconds:g} s")
    else:
        seconds = duration_s(value, name)
    settings.draft.set(path, seconds, name)


def apply_length(path: str, settings: Settings, value: str, name: str) -> None:
    """Set one figure of a length distribution; the others are the file's or the preset's."""
    draft = settings.draft
    part = path.rpartition(".")[0]
    if draft.get(part) is None:
        from blis_sim.workload.presets import preset

        lengths = preset(str(draft.get("workload.preset") or "distribution"))
        draft.default(
            part, getattr(lengths, part.rpartition(".")[2]).model_dump(exclude_unset=True)
        )
    draft.set(path, value, name)


def apply_constant_length(part: str, settings: Settings, value: str, name: str) -> None:
    """Let every length be the same, as ``vllm bench serve`` does without a range."""
    settings.draft.default(part, {})
    settings.draft.set(f"{part}.mean", value, name)
    settings.draft.set(f"{part}.stdev", 0, name)


def apply_dataset(settings: Settings, value: str, name: str) -> None:
    """``--dataset-name random``: constant lengths, 1024 and 128 unless they are given."""
    word = value.strip().lower()
    if word in _DATASETS:
        settings.draft.set("workload.trace_format", word, name)
        settings.needs_trace = f"{name} {word}"
        return
    if word != "random":
        raise ConfigError(
            f"{name} must be random or one of {', '.join(_DATASETS)}; got {value!r}; replay other "
            "data with --trace FILE"
        )
    settings.draft.default("workload.prompt", {"mean": 1024})
    settings.draft.default("workload.output", {"mean": 128})


def apply_range_ratio(settings: Settings, value: str, name: str) -> None:
    """``--random-range-ratio``: how far lengths lie around the constant ones."""
    try:
        ratio = float(value)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio < 1:
        raise ConfigError(f"{name} must be >= 0 and < 1; got {value}")
    if ratio:
        settings.range_ratio = (name, ratio)


def apply_spec(settings: Settings, value: str, name: str) -> None:
    """``--workload-spec``: a file that describes the load."""
    from blis_sim.catalog.locate import locate
    from blis_sim.workload.importing import read_foreign

    located = locate(Path(value))
    settings.notices += filter(None, [located.notice])
    foreign = read_foreign(located.path)
    if foreign is None:
        settings.draft.include_workload(located.path, name)
        return
    settings.notices += foreign.notices
    settings.draft.set("workload", foreign.settings, name)


def in_flags(message: str, typed: Sequence[Typed]) -> str:
    """Return an error message with the flags that were typed for the settings it names.

    A setting is named by its path, by the path of the part it belongs to, or, at the start of
    a message, by its last name alone.
    """
    for flag, name, _ in typed:
        path, nested = flag.path, flag.path.count(".") > 1
        if not path:
            continue
        message = re.sub(rf"^{path.rpartition('.')[2]}(?= must )", name, message)
        for dotted in (path, path.rpartition(".")[0])[: 1 + nested] if "." in path else ():
            message = re.sub(rf"(?<![\w./-]){re.escape(dotted)}(?!\w|\.\w|=)", name, message)
    return message
