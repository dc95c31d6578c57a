"""Points from the time of whole requests, by the work the model's arithmetic says they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from blis_sim.catalog.gpus import GpuSpec, load_gpu
from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.catalog.models import load_model
from blis_sim.errors import ConfigError
from blis_sim.roofline.points import MeasuredPoint
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import AllGather, AllReduce, Kernel, total_bytes, total_flops


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTimes:
    """How long a request (or a batch of equal ones) took.

    Attributes
    ----------
    seconds : float or None
        From its arrival to its last token, > 0; None = TTFT and TPOT say it.
    ttft_s : float or None
        Time to the first token, > 0 and below ``seconds``.
    tpot_s : float or None
        Mean time of each further token, > 0.
    """

    seconds: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Work:
    """FLOPs and bytes of memory on one GPU."""

    flops: int = 0
    bytes: float = 0.0

    def __add__(self, other: _Work) -> _Work:
        return _Work(self.flops + other.flops, self.bytes + other.bytes)

    def point(self, name: str, seconds: float) -> MeasuredPoint:
        tflops = self.flops / seconds / 1e12
        return MeasuredPoint(name, self.flops / self.bytes, tflops, duration_us=1e6 * seconds)


def points_of_request(
    model: ModelSpec | str,
    gpu: GpuSpec | str,
    times: RequestTimes,
    *,
    prompt_tokens: int,
    output_tokens: int,
    batch: int = 1,
    tp: int = 1,
    name: str = "request",
) -> list[MeasuredPoint]:
    """Return where a measured request stands: as a whole, and prefill and decode by themselves.

    Parameters
    ----------
    model, gpu : specification or name
        What ran, and where; of the GPU only counts whether it multiplies in fp8.
    times : RequestTimes
        ``seconds``, or TTFT and TPOT; with TTFT also the phases become points, ``seconds``
        less TTFT being the time of the decode where TPOT is not given.
    prompt_tokens, output_tokens : int
        Lengths, >= 1; the prefill gives the first token.
    batch : int
        Equal requests that ran together, >= 1.
    tp : int
        GPUs of the tensor-parallel group, >= 1; points are those of one of them.
    name : str
        What the points are called; the phases get ``prefill`` and ``decode`` behind it.

    Returns
    -------
    list of MeasuredPoint
        The whole; then prefill and decode where their times are known.

    Raises
    ------
    ConfigError
        A number is out of range, or the times contradict each other.
    CatalogError
        A name is unknown.

    Notes
    -----
    Time that a request waited counts: what a server did for others, or on its host, makes the
    point lie low. Bytes are the least that must move, see ``transformer.kernels``.
    """
    for what, count in (
        ("prompt_tokens", prompt_tokens),
        ("output_tokens", output_tokens),
        ("batch", batch),
    ):
        if isinstance(count, bool) or count < 1:
            raise ConfigError(f"{what} must be a whole number >= 1; got {count}")
    spec = load_model(model) if isinstance(model, str) else model
    card = load_gpu(gpu) if isinstance(gpu, str) else gpu
    forward = ForwardPass(spec, tp, has_fp8=card.fp8_tflops_dense is not None)
    seconds = _seconds(times, output_tokens)
    prefill = _work(forward.kernels(prefills=[(0, prompt_tokens)] * batch))
    decode = _decode(forward, prompt_tokens, output_tokens - 1, batch)
    points = [(prefill + decode).point(name, seconds)]
    if times.ttft_s is not None:
        points.append(prefill.point(f"{name} prefill", times.ttft_s))
        if decode.bytes:
            points.append(decode.point(f"{name} decode", seconds - times.ttft_s))
    return points


def _seconds(times: RequestTimes, output_tokens: int) -> float:
    """Return the whole time, consistent with its parts."""
    for what, value in (
        ("seconds", times.seconds),
        ("ttft_s", times.ttft_s),
        ("tpot_s", times.tpot_s),
    ):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{what} must be a number of seconds above 0; got {value}")
    by_parts = None
    if times.ttft_s is not None and (times.tpot_s is not None or output_tokens == 1):
        by_parts = times.ttft_s + (output_tokens - 1) * (times.tpot_s or 0.0)
    if times.seconds is None:
        if by_parts is None:
            raise ConfigError("seconds must be given, or ttft_s and tpot_s; got neither")
        return by_parts
    if by_parts is not None and not math.isclose(by_parts, times.seconds, rel_tol=0.05):
        raise ConfigError(
            f"seconds must be ttft_s + (output_tokens - 1) x tpot_s = {by_parts:g}, within 5 %; "
            f"got {times.seconds:g}; leave out one of them"
        )
    least_s = times.ttft_s or 0.0
    if times.seconds < least_s or (times.seconds == least_s and output_tokens > 1):
        raise ConfigError(f"seconds must be above ttft_s = {least_s:g}; got {times.seconds:g}")
    return times.seconds


def _decode(forward: ForwardPass, prompt_tokens: int, num_steps: int, batch: int) -> _Work:
    if not num_steps:
        return _Work()
    each = _work((*forward.token_kernels(batch), *forward.sampling_kernels(batch)))
    work = _Work(num_steps * each.flops, num_steps * each.bytes)
    for step in range(num_steps):
        work += _work(forward.decode_attention(batch, batch * (prompt_tokens + step)))
    return work


def _work(kernels: Iterable[Kernel]) -> _Work:
    """Return the sums of a GPU's own kernels: messages do not cross the bus of the memory."""
    own = [kernel for kernel in kernels if not isinstance(kernel, AllReduce | AllGather)]
    return _Work(total_flops(own), total_bytes(own))
