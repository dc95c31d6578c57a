"""Prefill and decode of a model's shapes, timed with PyTorch on random weights.

What a layer takes depends on shapes, not on values: weights are random, and no checkpoint is
needed. As many layers as fit are kept in memory and used in turn until all layers of the model
have run, so that models larger than the memory can be timed too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.errors import ConfigError
from blis_sim.roofline.points import MeasuredPoint
from blis_sim.roofline.repeated_timing import THOROUGH, Effort, Timer, Timing, time_call
from blis_sim.roofline.torch_device import TorchDevice
from blis_sim.transformer.dtypes import activation_dtype, dtype_bytes
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import Kernel, total_bytes, total_flops

_MEMORY_SHARE = 0.5
_NOT_RUN = frozenset({"embedding", "rope_and_cache", "sampling", "truncation"})
"""Kernels of the forward pass that are not timed; together below 1 % of its bytes."""
_TORCH_TYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """One phase, measured.

    Attributes
    ----------
    name : str
        ``prefill`` or ``decode``.
    tokens : int
        Tokens that come of one pass: prompt tokens, or one of each request.
    timing : Timing
        Of one pass through all layers and the LM head.
    flops : float
        Operations of the pass.
    bytes : float
        Bytes it moves, each operand once.
    is_graph : bool
        Whether kernels were launched together, as a CUDA graph.
    """

    name: str
    tokens: int
    timing: Timing
    flops: float
    bytes: float
    is_graph: bool = False

    @property
    def point(self) -> MeasuredPoint:
        """Where it stands on a roofline."""
        seconds = self.timing.call_s
        tflops = self.flops / seconds / 1e12
        return MeasuredPoint(self.name, self.flops / self.bytes, tflops, duration_us=1e6 * seconds)


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """Prefill and decode of a model on a device.

    Attributes
    ----------
    phases : tuple of PhaseTime
        Prefill and decode.
    notes : tuple of str
        What was timed, and what was not.
    """

    phases: tuple[PhaseTime, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad:
    """What is computed.

    Attributes
    ----------
    prompt_tokens : int
        Tokens of each prompt, and the context of each decode, >= 1.
    batch : int
        Equal requests, >= 1.
    """

    prompt_tokens: int = 512
    batch: int = 1


def time_model(
    model: ModelSpec,
    device: TorchDevice,
    load: ModelLoad | None = None,
    *,
    effort: Effort = THOROUGH,
    timer: Timer = time_call,
) -> ModelTimes:
    """Time one prefill and one decode step.

    Parameters
    ----------
    model : ModelSpec
        A dense model; quantised ones are timed in the type of their activations.
    device : TorchDevice
        Where.
    load : ModelLoad, optional
        Lengths and batch.
    effort, timer
        As in ``repeated_timing``.

    Raises
    ------
    ConfigError
        The model has experts or latent attention, a number is out of range, or the memory
        is too small for one layer.
    """
    load = ModelLoad() if load is None else load
    _check(model, load)
    plain = replace(model, quantization=None, weight_bits=16, scale_bits=0.0, sliding_window=None)
    plain = replace(plain, num_full_attention_layers=model.num_layers)
    torch = device.torch
    if device.is_cuda:
        torch.cuda.set_device(device.device)
    with torch.inference_mode():
        layers = _Layers(plain, device, load)
        prefill = _timed(device, layers.prefill, timer, effort)
        step, is_graph = _captured(device, layers.decode)
        decode = _timed(device, step, timer, effort)
    batch, tokens = load.batch, load.prompt_tokens
    forward = ForwardPass(plain, 1)
    first = forward.kernels(prefills=[(0, tokens)] * batch)
    later = forward.kernels(num_decodes=batch, sum_decode_context=batch * tokens)
    phases = (
        PhaseTime("prefill", batch * tokens, prefill, *_work(first)),
        PhaseTime("decode", batch, decode, *_work(later), is_graph=is_graph),
    )
    return ModelTimes(phases, tuple(_notes(model, device, layers, is_graph)))


def _check(model: ModelSpec, load: ModelLoad) -> None:
    if model.moe is not None or model.mla is not None:
        raise ConfigError(
            "a model to time must be dense, without experts and latent attention; got "
            f"{model.name}"
        )
    for what, count in (("prompt_tokens", load.prompt_tokens), ("batch", load.batch)):
        if count < 1:
            raise ConfigError(f"{what} must be at least 1; got {count}")
    if model.sliding_window is not None and load.prompt_tokens > model.sliding_window:
        raise ConfigError(
            f"prompt_tokens must be at most the model's window of {model.sliding_window} tokens; "
            f"got {load.prompt_tokens}"
        )


def _work(kernels: tuple[Kernel, ...]) -> tuple[float, float]:
    run = [kernel for kernel in kernels if kernel.name not in _NOT_RUN]
    return total_flops(run), total_bytes(run)


def _timed(
    device: TorchDevice, launch: Callable[[], object], timer: Timer, effort: Effort
) -> Timing:
    def call() -> None:
        launch()
        device.wait()

    return timer(call, effort)


def _captured(
    device: TorchDevice, launch: Callable[[], object]
) -> tuple[Callable[[], object], bool]:
    """Return what launches a step at once, as engines do, and whether that is possible."""
    if not device.is_cuda:
        return launch, False
    torch = device.torch
    try:
        # Libraries allocate their workspaces before the capture, on a stream of its own.
        stream = torch.cuda.Stream(device.device)
        stream.wait_stream(torch.cuda.current_stream(device.device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                launch()
        torch.cuda.current_stream(device.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            launch()
    except RuntimeError:
        device.wait()
        return launch, False
    replay: Callable[[], object] = graph.replay
    return replay, True


def _notes(model: ModelSpec, device: TorchDevice, layers: _Layers, is_graph: bool) -> list[str]:
    notes = ["weights are random: times depend on shapes, not on values"]
    if layers.num_kept < model.num_layers:
        notes.append(
            f"memory holds {layers.num_kept} of {model.num_layers} layers: they are used in turn"
        )
    if layers.num_kept * layers.layer_bytes < 4 * device.cache_bytes:
        notes.append("the layers are not much larger than the cache: decode may look too fast")
    if model.quantization is not None:
        notes.append(f"{model.quantization} weights are timed in {layers.dtype}")
    if device.is_cuda and not is_graph:
        notes.append("the decode step could not be captured as a CUDA graph: the host counts too")
    return notes


class _Layers:
    """Layers with random weights, the LM head, and the inputs of both phases."""

    def __init__(self, model: ModelSpec, device: TorchDevice, load: ModelLoad) -> None:
        torch = device.torch
        self.model, self.load, self.torch = model, load, torch
        self.dtype = activation_dtype(model)
        self.shapes = _weight_shapes(model)
        size = dtype_bytes(self.dtype)
        cache = (load.batch, model.num_kv_heads, load.prompt_tokens + 1, model.head_dim)
        num_weights = sum(n * k for n, k in self.shapes.values())
        self.layer_bytes = size * (num_weights + 2 * _product(cache))
        head_bytes = size * model.vocab_size * model.hidden_size
        room = int((device.free_bytes * _MEMORY_SHARE - head_bytes) // self.layer_bytes)
        if room < 1:
            raise ConfigError(
                f"one layer and the LM head of {model.name} must fit into half of the free memory "
                f"of {device.name} ({device.free_bytes / 1e9:.1f} GB); they take "
                f"{(self.layer_bytes + head_bytes) / 1e9:.1f} GB; lower batch or prompt tokens"
            )
        self.num_kept = min(room, model.num_layers)
        self._kind = {"dtype": getattr(torch, _TORCH_TYPES[self.dtype]), "device": device.device}
        self._weights = [
            {name: self._random(*shape) for name, shape in self.shapes.items()}
            for _ in range(self.num_kept)
        ]
        self._caches = [(self._random(*cache), self._random(*cache)) for _ in range(self.num_kept)]
        self._head = self._random(model.vocab_size, model.hidden_size)
        self._norm = torch.ones(model.hidden_size, **self._kind)
        self._prompt = self._random(load.batch, load.prompt_tokens, model.hidden_size, scale=1.0)
        self._last = self._random(load.batch, 1, model.hidden_size, scale=1.0)

    def _random(self, *shape: int, scale: float | None = None) -> Any:
        spread = shape[-1] ** -0.5 if scale is None else scale
        return self.torch.empty(shape, **self._kind).normal_(0, spread)

    def prefill(self) -> Any:
        """Compute all prompts and the logits of their last tokens."""
        return self._forward(self._prompt, is_prefill=True)

    def decode(self) -> Any:
        """Compute one token of each request behind its context."""
        return self._forward(self._last, is_prefill=False)

    def _forward(self, x: Any, *, is_prefill: bool) -> Any:
        for number in range(self.model.num_layers):
            x = self._layer(x, number % self.num_kept, is_prefill)
        functional = self.torch.nn.functional
        return functional.linear(self._normed(x[:, -1]), self._head)

    def _normed(self, x: Any) -> Any:
        return self.torch.nn.functional.rms_norm(x, (self.model.hidden_size,), self._norm, 1e-5)

    def _layer(self, x: Any, kept: int, is_prefill: bool) -> Any:
        functional, weights = self.torch.nn.functional, self._weights[kept]
        attended = self._attention(
            functional.linear(self._normed(x), weights["qkv"]), kept, is_prefill
        )
        x = x + functional.linear(attended, weights["o"])
        if not self.model.gated_mlp:
            hidden = functional.gelu(functional.linear(self._normed(x), weights["up"]))
        else:
            gate, up = functional.linear(self._normed(x), weights["gate_up"]).chunk(2, dim=-1)
            hidden = functional.silu(gate) * up
        return x + functional.linear(hidden, weights["down"])

    def _attention(self, qkv: Any, kept: int, is_prefill: bool) -> Any:
        model = self.model
        heads, kv_heads, width = model.num_attention_heads, model.num_kv_heads, model.head_dim
        batch, tokens, _ = qkv.shape
        parts = qkv.split([heads * width, kv_heads * width, kv_heads * width], dim=-1)
        q, k, v = (part.view(batch, tokens, -1, width).transpose(1, 2) for part in parts)
        if not is_prefill:
            keys, values = self._caches[kept]
            keys[:, :, -1:].copy_(k)
            values[:, :, -1:].copy_(v)
            k, v = keys, values
        attended = self.torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=is_prefill, enable_gqa=heads != kv_heads
        )
        return attended.transpose(1, 2).reshape(batch, tokens, heads * width)


def _weight_shapes(model: ModelSpec) -> dict[str, tuple[int, int]]:
    """Return (output, input) width of the matrices of one layer."""
    d, f = model.hidden_size, model.intermediate_size
    q, kv = (count * model.head_dim for count in (model.num_attention_heads, model.num_kv_heads))
    first = ("gate_up", (2 * f, d)) if model.gated_mlp else ("up", (f, d))
    return dict([("qkv", (q + 2 * kv, d)), ("o", (d, q)), first, ("down", (d, f))])


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
