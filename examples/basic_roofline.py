"""Ask why a model is as slow as it is on a GPU, and what would help.

Prints where prefill and decode of Mistral-7B stand against the roofs of a T4 and an H100, and
draws the roofline when matplotlib is there:

    python examples/basic_roofline.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from blis_sim.errors import MissingExtraError
from blis_sim.roofline import H100Specs, MistralConfig, RooflineAnalyzer, T4Specs

LENGTHS = (64, 256, 1024, 4096)
PROMPT, ANSWER = 1024, 256
MEASURED_S = 2.4  # of one request of that size on the H100; made up


def intensities(analyzer: RooflineAnalyzer) -> None:
    """Print FLOP per byte of both phases at several lengths."""
    ridge = analyzer.ridge()
    print(f"{analyzer.model.name} on {analyzer.gpu.name}, ridge at {ridge:.0f} FLOP/byte")
    for seq_len in LENGTHS:
        prefill = analyzer.get_operational_intensity(seq_len, "prefill")
        decode = analyzer.get_operational_intensity(seq_len, "decode")
        batched = analyzer.operational_intensity(seq_len, "decode", batch=64)
        print(
            f"  {seq_len:5} tokens: prefill {prefill:6.1f}, decode {decode:4.2f}, "
            f"64 decodes {batched:4.1f}"
        )


def what_would_help(analyzer: RooflineAnalyzer) -> None:
    """Print how far a measured request is from the roof, and changes by what they gain."""
    analysis = analyzer.analyze(PROMPT, ANSWER, measured_time=MEASURED_S)
    print(f"{PROMPT} + {ANSWER} tokens are {analysis.bottleneck}:", end=" ")
    print(
        f"{analysis.roof_s:.2f} s at the roof, {analysis.distance_to_roof:.1f} times that measured"
    )
    for change in analysis.suggestions:
        print(f"  throughput x {change.gain:5.2f}, speed x {change.speedup:4.2f}: {change.change}")


def main(picture: str = "roofline.png") -> None:
    """Print both, and draw the roofline of the H100."""
    for gpu in (T4Specs(), H100Specs()):
        intensities(RooflineAnalyzer(gpu_specs=gpu, model_config=MistralConfig()))
    analyzer = RooflineAnalyzer(gpu_specs=H100Specs(), model_config=MistralConfig())
    what_would_help(analyzer)
    steps = [analyzer.step("prefill", PROMPT), analyzer.step("decode", PROMPT, batch=64)]
    points = [{"name": "measured GEMM", "oi": 680, "tflops": 610}]
    try:
        analyzer.plot_roofline(points, save_path=Path(picture), steps=steps)
    except MissingExtraError as missing:
        print(missing)
    else:
        print(f"drawn: {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
