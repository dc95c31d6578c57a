from __future__ import annotations

import pytest

from blis_sim.config.lengths import LengthSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.presets import Preset, preset


@pytest.mark.parametrize(
    ("name", "prompt", "output"),
    [
        ("chatbot", (256, 100, 2, 800), (256, 100, 1, 1024)),
        ("contentgen", (1024, 150, 10, 2048), (1024, 200, 10, 2048)),
        ("summarization", (4096, 500, 100, 8192), (512, 150, 10, 2048)),
        ("multidoc", (10240, 1200, 500, 20480), (1536, 300, 50, 4096)),
        ("distribution", (512, 256, 2, 7000), (512, 256, 2, 7000)),
    ],
)
def test_presets_are_those_of_blis(
    name: str, prompt: tuple[int, ...], output: tuple[int, ...]
) -> None:
    """Mean, standard deviation, minimum and maximum of every preset."""

    def figures(lengths: LengthSettings) -> tuple[float | None, ...]:
        return lengths.mean, lengths.stdev, lengths.min, lengths.max

    found: Preset = preset(name)
    assert figures(found.prompt) == prompt
    assert figures(found.output) == output


def test_unknown_preset_names_the_nearest() -> None:
    """A preset that does not exist is an error with a suggestion."""
    with pytest.raises(ConfigError, match=r"workload\.preset must be .*got 'chatbott'.*chatbot"):
        preset("chatbott")
