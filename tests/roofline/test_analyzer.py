"""Phases, requests and suggestions under the roofs of a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from blis_sim.catalog.gpus import list_gpus, load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.config.latency import LatencySettings
from blis_sim.errors import CatalogError, ConfigError
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.latency.selection import Deployment, select_latency
from blis_sim.report.step_breakdown import DecodeSet, break_down
from blis_sim.roofline import (
    Bottleneck,
    CustomConfig,
    H100Specs,
    Llama2_7BConfig,
    Llama2_13BConfig,
    Llama2_70BConfig,
    Llama3_8BConfig,
    Llama3_70BConfig,
    MistralConfig,
    Phase,
    RooflineAnalyzer,
    SuggestionKind,
    T4Specs,
)
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import total_bytes, total_flops

SHORT, LONG = (64, 100), (256, 512, 1024, 2048, 4096)
MODELS = (
    *(MistralConfig(), Llama2_7BConfig(), Llama2_13BConfig(), Llama2_70BConfig()),
    *(Llama3_8BConfig(), Llama3_70BConfig()),
)


def make_analyzer(
    gpu: str = "H100", model: str = "llama-3.1-8b", **more: object
) -> RooflineAnalyzer:
    return RooflineAnalyzer(gpu, model, **more)  # type: ignore[arg-type]


def test_names_of_both_kinds_mean_the_same() -> None:
    """``gpu`` and ``gpu_specs``, a name and a specification."""
    by_name = RooflineAnalyzer("T4", "mistral-7b-instruct-v0.1")
    by_spec = RooflineAnalyzer(gpu_specs=T4Specs(), model_config=MistralConfig())
    by_keyword = RooflineAnalyzer(gpu="T4", model=MistralConfig())
    figures = {a.get_operational_intensity(512, "prefill") for a in (by_name, by_spec, by_keyword)}
    assert len(figures) == 1
    assert by_spec.ridge() == pytest.approx(203, abs=0.5)


@pytest.mark.parametrize(
    ("gpu", "ridge"),
    [("T4", 203), ("V100", 139), ("A100-40", 201), ("A100-80", 153), ("H100", 295), ("L4", 403)],
)
def test_ridge_points(gpu: str, ridge: int) -> None:
    """Dense 16-bit tensor peak over memory bandwidth, FLOP/byte."""
    assert make_analyzer(gpu).ridge() == pytest.approx(ridge, abs=0.6)


@pytest.mark.parametrize("model", MODELS, ids=lambda spec: spec.name)
def test_intensities_are_those_known_of_the_two_phases(model: object) -> None:
    """Decode of one request 1 to 2 FLOP/byte; prefill 50 to 100 at 64 to 100 tokens, and 200 to
    2000 from 256 to 4096 tokens."""
    analyzer = RooflineAnalyzer("H100", model)  # type: ignore[arg-type]
    for seq_len in (1, *SHORT, *LONG):
        assert 0.9 < analyzer.get_operational_intensity(seq_len, "decode") < 2
    for seq_len in SHORT:
        assert 50 < analyzer.get_operational_intensity(seq_len, "prefill") < 100
    for seq_len in LONG:
        assert 200 < analyzer.get_operational_intensity(seq_len, "prefill") < 2000


@pytest.mark.parametrize("seq_len", [1, 256, 4096])
def test_intensity_of_decode_grows_with_the_batch(seq_len: int) -> None:
    """All requests share the weights; each has its own cache, which bounds the growth."""
    figures = [
        make_analyzer().operational_intensity(seq_len, "decode", batch)
        for batch in (1, 2, 8, 64, 256)
    ]
    assert figures == sorted(figures)
    assert figures[3] > 15 * figures[0]


def test_phases_on_both_sides_of_the_ridge() -> None:
    """A long prompt computes, a decode reads."""
    analyzer = make_analyzer()
    prefill, decode = analyzer.step("prefill", 2048), analyzer.step("decode", 2048)
    assert prefill.bottleneck == "compute-bound"
    assert decode.bottleneck == "memory-bound"
    assert prefill.intensity > analyzer.ridge() > decode.intensity
    assert prefill.attainable_tflops == pytest.approx(989.5)
    assert decode.attainable_gb_per_s == pytest.approx(3350)
    assert decode.attainable_tflops == pytest.approx(3.35 * decode.intensity)


@pytest.mark.parametrize(
    ("model", "tp", "quantization"),
    [
        ("llama-3.1-8b", 1, None),
        ("llama-3-70b", 4, "fp8"),
        ("mixtral-8x7b-instruct-v0.1", 2, None),
        ("deepseek-v2-lite", 1, None),
        ("gemma-2-2b-it", 1, "awq"),
    ],
)
def test_kernels_add_up_to_those_of_the_forward_pass(
    model: str, tp: int, quantization: str | None
) -> None:
    """FLOPs, and bytes with those of messages, of every phase; what the latency model sums."""
    analyzer = make_analyzer(model=model, tp=tp, quantization=quantization)
    forward = ForwardPass(analyzer.model, tp)
    steps: Sequence[tuple[str, dict[str, object]]] = (
        ("prefill", {"prefills": [(0, 700)] * 3}),
        ("decode", {"num_decodes": 3, "sum_decode_context": 2100}),
    )
    for phase, step in steps:
        kernels = forward.kernels(**step)  # type: ignore[arg-type]
        found = analyzer.step(phase, 700, 3)
        assert found.flops == total_flops(kernels)
        assert found.bytes + found.message_bytes == pytest.approx(total_bytes(kernels), rel=1e-12)
        assert (found.message_bytes > 0) == (tp > 1)
        for what in ("flops", "bytes", "message_bytes"):
            assert sum(getattr(kernel, what) for kernel in found.kernels) == getattr(found, what)
        assert found.kernels_s >= found.roof_s * (1 - 1e-12)


@pytest.mark.parametrize(("context", "batch"), [(1000, 1), (300, 32)])
def test_sums_are_those_of_a_step_of_the_latency_model(context: int, batch: int) -> None:
    """What blis step shows for the same step, kernel by kernel and in all."""
    name = "llama-2-7b-hf"  # its sampling masks nothing
    deployment = Deployment(model_name=name, spec=load_model(name), gpu=load_gpu("H100"), tp=1)
    model = select_latency(LatencySettings(model="roofline-v2"), deployment).model
    assert isinstance(model, RooflineV2Model)
    shown = break_down(model, [], [DecodeSet(batch, context)])
    step = make_analyzer(model=name).step("decode", context, batch)
    assert step.flops == shown.total.flops
    assert step.bytes == pytest.approx(shown.total.bytes)
    assert 1e6 * step.memory_s == pytest.approx(shown.total.memory_us)
    assert 1e6 * step.compute_s == pytest.approx(shown.total.compute_us)
    kernels = {kernel.name: kernel for kernel in step.kernels}
    lines = {line.name: line for line in shown.lines if line.bytes}
    assert {name: line.flops for name, line in lines.items()} == {
        name: kernel.flops for name, kernel in kernels.items()
    }
    assert step.kernels_s < 1e-6 * shown.step_time_us


def test_decode_of_an_answer_is_the_sum_of_its_steps() -> None:
    """The first token comes from the prefill; each step has one token more in the cache."""
    analyzer = make_analyzer(model="gemma-2-2b-it")
    decode = analyzer.analyze(4090, 11, 4).decode
    assert decode is not None
    steps = [analyzer.step("decode", 4090 + n, 4) for n in range(10)]
    assert decode.flops == sum(step.flops for step in steps)
    assert decode.bytes == pytest.approx(sum(step.bytes for step in steps))
    assert decode.num_steps == 10
    assert decode.num_tokens == 40


def test_analysis_of_requests() -> None:
    """The whole is the sum of the phases; what takes longest names the bottleneck."""
    analysis = make_analyzer().analyze(1024, 256, 8)
    prefill, decode = analysis.phases
    assert analysis.flops == prefill.flops + decode.flops
    assert analysis.roof_s == pytest.approx(prefill.roof_s + decode.roof_s)
    assert analysis.bottleneck is decode.bottleneck is Bottleneck.MEMORY
    assert analysis.intensity == pytest.approx(analysis.flops / analysis.bytes)
    assert analysis.achieved_tflops is None
    assert analysis.distance_to_roof is None
    assert analysis.fits
    one = make_analyzer().analyze(1024)
    assert one.decode is None
    assert one.bottleneck == "compute-bound"


def test_measured_times() -> None:
    """Of the whole or of phases; distance 1 = on the roof."""
    analyzer = make_analyzer()
    at_roof = analyzer.analyze(512, 64)
    twice = analyzer.analyze(512, 64, measured_time=2 * at_roof.roof_s)
    assert twice.distance_to_roof == pytest.approx(2)
    assert twice.roof_fraction == pytest.approx(0.5)
    assert twice.achieved_tflops == pytest.approx(twice.attainable_tflops / 2)
    assert twice.achieved_gb_per_s == pytest.approx(twice.attainable_gb_per_s / 2)
    assert twice.prefill.achieved_tflops is None
    each = analyzer.analyze(512, 64, measured_time={"prefill": 0.02, "decode": 0.5})
    assert each.measured_s == pytest.approx(0.52)
    assert each.prefill.achieved_tflops == pytest.approx(each.prefill.flops / 0.02 / 1e12)
    assert analyzer.analyze(512, measured_time=0.02).prefill.measured_s == 0.02


def test_suggestions_for_a_memory_bound_decode() -> None:
    """Each is what the analysis says when it is run again with the change, sorted by gain."""
    analyzer = make_analyzer()
    now = analyzer.analyze(256, 64)
    found = {each.change: each for each in now.suggestions}
    gains = [each.gain for each in now.suggestions]
    assert gains == sorted(gains, reverse=True)
    assert {each.kind for each in now.suggestions} == set(SuggestionKind)
    fp8 = make_analyzer(quantization="fp8").analyze(256, 64)
    assert found["weights in fp8"].speedup == pytest.approx(now.time_s / fp8.time_s)
    two = make_analyzer(tp=2).analyze(256, 64)
    tensor = found["tensor parallelism over 2 GPUs instead of 1"]
    assert two.link_s
    assert tensor.speedup == pytest.approx(now.time_s / two.time_s)
    assert tensor.gain_per_gpu == pytest.approx(tensor.gain / 2)
    batching = now.suggestions[0]
    assert batching.kind is SuggestionKind.BATCHING
    assert batching.gain > 10
    assert batching.speedup < 1


def test_a_compute_bound_prefill_gains_nothing_from_batching() -> None:
    """Neither from int4 weights, which are widened; fp8 has twice the peak."""
    found = make_analyzer().analyze(4096).suggestions
    assert "batching" not in {each.kind for each in found}
    changes = {each.change: each.speedup for each in found}
    assert "weights in int4 (AWQ)" not in changes
    assert 1.5 < changes["weights in fp8"] < 2


def test_no_suggestion_is_worse_or_does_not_fit() -> None:
    """A model that fills its GPU gets no larger batch, and no GPU it does not fit into."""
    analysis = make_analyzer("A100-80", "llama-2-70b-hf").analyze(256, 16)
    assert analysis.fits is False
    sizes = {gpu.name: gpu.memory_gib for gpu in list_gpus()}
    for each in analysis.suggestions:
        assert max(each.gain, each.speedup) > 1
        assert each.kind is not SuggestionKind.BATCHING
        if each.kind is SuggestionKind.GPU:
            assert (sizes[each.change.split()[0]] or 0) * 2**30 * 0.9 >= analysis.memory_bytes


def test_tensor_parallelism_is_over_as_many_gpus_as_make_it_fit() -> None:
    """70 billion parameters in 16 bits need four GPUs of 40 GB."""
    found = make_analyzer("A100-40", "llama-3-70b").analyze(1024, 16).suggestions
    (tensor,) = [each for each in found if each.kind is SuggestionKind.TENSOR_PARALLEL]
    assert tensor.change == "tensor parallelism over 4 GPUs instead of 1"
    assert tensor.note == ""
    none_fits = make_analyzer("H100", "deepseek-v3").analyze(1024, 16).suggestions
    assert any("do not fit" in each.note for each in none_fits)


def test_links_that_are_not_known_are_said_to_be() -> None:
    """L4 has no NVLink: the figure of tensor parallelism leaves communication out."""
    notes = {each.kind: each.note for each in make_analyzer("L4").analyze(256, 64).suggestions}
    assert "without communication" in notes[SuggestionKind.TENSOR_PARALLEL]
    assert make_analyzer("L4", tp=2).step("decode", 100).link_s is None


def test_formats() -> None:
    """A method given as dtype means quantisation; fp8 is widened where there are no such units."""
    by_dtype = make_analyzer(dtype="fp8").step("prefill", 4096)
    assert by_dtype == make_analyzer(quantization="fp8").step("prefill", 4096)
    assert by_dtype.peak_tflops > 1500
    assert make_analyzer(dtype="half").model.dtype == "float16"
    widened = make_analyzer("A100-80", quantization="fp8").step("prefill", 4096)
    assert widened.peak_tflops == pytest.approx(312)
    fp32 = make_analyzer(dtype="fp32").step("decode", 64)
    assert fp32.intensity == pytest.approx(
        make_analyzer().step("decode", 64).intensity / 2, rel=1e-3
    )


def test_models_of_ones_own() -> None:
    """A custom config, and the parsed config.json of a model."""
    custom = CustomConfig(name="llama-2-7b")
    assert custom.spec().num_parameters == load_model("llama-2-7b-hf").num_parameters
    config = {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 11008,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "torch_dtype": "bfloat16",
        "architectures": ["LlamaForCausalLM"],
    }
    figures = {
        RooflineAnalyzer("A100", model).operational_intensity(300, "prefill", 2)
        for model in (custom, config, Llama2_7BConfig())
    }
    assert len(figures) == 1
    assert MistralConfig(num_layers=16).num_layers == 16
    assert H100Specs(hbm_gb_per_s=3000.0).hbm_gb_per_s == 3000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RooflineAnalyzer("H10", "llama-3.1-8b"), "nearest: .*H100"),
        (lambda: RooflineAnalyzer("H100", "lama-3.1-8b"), "nearest: .*[Ll]lama"),
        (lambda: RooflineAnalyzer("H100"), r"model \(or model_config\) must be given, once"),
        (lambda: make_analyzer(tp=3), "tensor_parallel_size must split"),
        (lambda: make_analyzer(dtype="bf61"), "dtype must be a known name; .* bf16"),
        (lambda: make_analyzer(quantization="fp9"), "nearest: .*fp8"),
        (lambda: make_analyzer(dtype="fp8", quantization="awq"), "quantization must agree"),
        (lambda: make_analyzer(kv_cache_dtype="fp4"), "kv_cache_dtype must be"),
        (lambda: make_analyzer().step("decod", 4), "phase must be a known name; .*decode"),
        (lambda: make_analyzer().step("prefill", 0), "seq_len must be a whole number from 1"),
        (lambda: make_analyzer().step("decode", 4, 0), "batch must be a whole number from 1"),
        (lambda: make_analyzer().analyze(0), "prompt_len must be a whole number from 1"),
        (lambda: make_analyzer().analyze(4, 2.0), "gen_tokens must be a whole number"),
        (lambda: make_analyzer().analyze(4, measured_time=0), "measured_time must be seconds"),
        (
            lambda: make_analyzer().analyze(4, measured_time={"decode": 1.0}),
            "must have no decode",
        ),
        (lambda: T4Specs(hbm_gb=1), "field of GpuSpec must be a known name; .*hbm_gb_per_s"),
        (lambda: CustomConfig(num_kv_heads=5).spec(), "num_kv_heads must divide"),
        (lambda: CustomConfig(hidden_size=-1).spec(), "hidden_size must be a whole number >= 1"),
        (lambda: RooflineAnalyzer(3, "llama-3.1-8b"), "gpu must be a name or a GpuSpec; got int"),
        (lambda: RooflineAnalyzer(T4Specs, "llama-3.1-8b"), r"gpu must be .*T4Specs\(\)|write"),
    ],
)
def test_wrong_input_is_one_clear_line(call: object, message: str) -> None:
    """It says what is wanted, and what is near."""
    with pytest.raises((CatalogError, ConfigError), match=message):
        call()  # type: ignore[operator]


def test_phases_are_words() -> None:
    """A phase equals its name."""
    assert Phase.PREFILL == "prefill"
    assert make_analyzer().step("Prefill ", 4).phase is Phase.PREFILL
