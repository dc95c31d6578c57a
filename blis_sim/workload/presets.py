"""Named length distributions of the BLIS presets."""

from __future__ import annotations

from typing import NamedTuple

from blis_sim.config.lengths import LengthSettings
from blis_sim.errors import ConfigError, unknown_name


class Preset(NamedTuple):
    """Prompt and output lengths that belong together."""

    prompt: LengthSettings
    output: LengthSettings


def _normal(mean: int, stdev: int, minimum: int, maximum: int) -> LengthSettings:
    return LengthSettings(mean=mean, stdev=stdev, min=minimum, max=maximum)


def preset(name: str) -> Preset:
    """Return the lengths of a preset, in tokens.

    The figures are those of the BLIS simulator (v0.6.1): ``chatbot``, ``contentgen``,
    ``summarization``, ``multidoc``, and ``distribution``, the defaults of its length flags.

    Raises
    ------
    ConfigError
        If there is no preset of that name.
    """
    match name:
        case "chatbot":
            return Preset(_normal(256, 100, 2, 800), _normal(256, 100, 1, 1024))
        case "contentgen":
            return Preset(_normal(1024, 150, 10, 2048), _normal(1024, 200, 10, 2048))
        case "summarization":
            return Preset(_normal(4096, 500, 100, 8192), _normal(512, 150, 10, 2048))
        case "multidoc":
            return Preset(_normal(10240, 1200, 500, 20480), _normal(1536, 300, 50, 4096))
        case "distribution":
            return Preset(_normal(512, 256, 2, 7000), _normal(512, 256, 2, 7000))
    known = ("chatbot", "contentgen", "summarization", "multidoc", "distribution")
    raise ConfigError(unknown_name("workload.preset", name, known))
