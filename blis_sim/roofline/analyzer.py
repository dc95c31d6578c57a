"""The analyzer: a model on a GPU, and what is to be known of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.catalog.model_spec import ModelSpec, check_tensor_parallel
from blis_sim.catalog.quantization import known_methods
from blis_sim.errors import ConfigError, unknown_name
from blis_sim.roofline.analysis import Analysis, PhaseAnalysis
from blis_sim.roofline.ceilings import Ceilings, ceilings_of_gpu
from blis_sim.roofline.specs import AnyGpu, AnyModel, gpu_of, model_of
from blis_sim.roofline.totals import Phase, Shape
from blis_sim.roofline.under_roofs import analyse_phase, summed
from blis_sim.transformer.dtypes import cache_dtype, dtype_bytes

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.roofline.points import MeasuredPoint

_DTYPES = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float32": "float32",
    "float": "float32",
}
_USABLE_SHARE = 0.9
"""Of the memory, as vLLM's ``gpu_memory_utilization``."""
_GIB = 2**30
MOST_TOKENS = 2**24
MOST_BATCH = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A model as it runs on a GPU.

    Attributes
    ----------
    gpu : GpuSpec
    spec : ModelSpec
        Quantised as it runs.
    tp : int
        GPUs that share every layer.
    kv_cache_dtype : str
        ``auto`` or ``fp8``.
    """

    gpu: GpuSpec
    spec: ModelSpec
    tp: int = 1
    kv_cache_dtype: str = "auto"

    def phase(
        self,
        phase: Phase,
        seq_len: int,
        batch: int,
        num_steps: int = 1,
        measured_s: float | None = None,
    ) -> PhaseAnalysis:
        """Return a phase under the roofs, see `Shape`."""
        has_fp8 = self.gpu.fp8_tflops_dense is not None
        cached = self.kv_cache_dtype
        shape = Shape(self.spec, self.tp, cached, has_fp8, phase, batch, seq_len, num_steps)
        return analyse_phase(shape, self.gpu, measured_s)

    def memory_bytes(self, tokens: int, batch: int) -> int:
        """Return what weights and the KV cache of a batch take on one GPU."""
        element = dtype_bytes(cache_dtype(self.spec, self.kv_cache_dtype))
        per_token = self.spec.kv_bytes_per_token(self.tp, element)
        return self.spec.weight_bytes(self.tp) + per_token * tokens * batch

    def fits(self, tokens: int, batch: int) -> bool | None:
        """Return whether that is within 90 % of the memory; None = it is not known."""
        if self.gpu.memory_gib is None:
            return None
        limit = _USABLE_SHARE * self.gpu.memory_gib * _GIB
        return self.memory_bytes(tokens, batch) <= limit

    def analysis(
        self,
        prompt_len: int,
        gen_tokens: int,
        batch: int,
        measured: Mapping[Phase | None, float] | None = None,
    ) -> Analysis:
        """Return the analysis of requests, without suggestions; None is the key of the whole."""
        times = measured or {}
        prefill = self.phase(Phase.PREFILL, prompt_len, batch, measured_s=times.get(Phase.PREFILL))
        decode = None
        if gen_tokens > 1:
            decode = self.phase(
                Phase.DECODE, prompt_len, batch, gen_tokens - 1, times.get(Phase.DECODE)
            )
        phases = [prefill] if decode is None else [prefill, decode]
        # The last token is never read from the cache.
        tokens = prompt_len + gen_tokens - 1
        return Analysis(
            **summed(phases, self.gpu.bf16_tflops_dense)._asdict(),
            bandwidth_gb_per_s=self.gpu.hbm_gb_per_s,
            measured_s=times.get(None),
            gpu=self.gpu.name,
            model=self.spec.name,
            tp=self.tp,
            prompt_len=prompt_len,
            gen_tokens=gen_tokens,
            batch=batch,
            prefill=prefill,
            decode=decode,
            memory_bytes=self.memory_bytes(tokens, batch),
            fits=self.fits(tokens, batch),
        )


class RooflineAnalyzer:
    """Where a model stands against the roofs of a GPU.

    FLOPs and bytes are those of the kernels of `ForwardPass`, which the latency model
    roofline-v2 sums up, too; roofs are those of ``configs/gpus``.

    Parameters
    ----------
    gpu, model
        Names, or specifications; see `AnyGpu` and `AnyModel`.
    tp : int
        GPUs that share every layer, >= 1; figures are those of one of them.
    dtype : str or None
        Of activations and unquantised weights: ``bf16``, ``fp16``, ``fp32`` or their long
        names. A method of quantisation (``fp8``, ``int8``, ``awq``, ...) means that.
    quantization : str or None
        Method for all linear layers; None = as the checkpoint is.
    kv_cache_dtype : str
        ``auto`` (the model's) or ``fp8``.
    gpu_specs, model_config
        Other names of ``gpu`` and ``model``.

    Attributes
    ----------
    gpu : GpuSpec
    model : ModelSpec
        Quantised as it runs.
    tp, kv_cache_dtype
        As given.
    ceilings : Ceilings
        The roofs of the GPU.

    Raises
    ------
    CatalogError
        A name is unknown; the nearest are listed.
    ConfigError
        A dtype is unknown, ``tp`` does not split the heads, or GPU or model are missing.
    """

    def __init__(
        self,
        gpu: AnyGpu | None = None,
        model: AnyModel | None = None,
        *,
        tp: int = 1,
        dtype: str | None = None,
        quantization: str | None = None,
        kv_cache_dtype: str = "auto",
        gpu_specs: AnyGpu | None = None,
        model_config: AnyModel | None = None,
    ) -> None:
        spec = with_dtype(
            model_of(_one_of("model", model, "model_config", model_config)), dtype, quantization
        )
        check_tensor_parallel(spec, tp)
        cache_dtype(spec, kv_cache_dtype)
        found = gpu_of(_one_of("gpu", gpu, "gpu_specs", gpu_specs))
        self.deployed = Deployed(gpu=found, spec=spec, tp=tp, kv_cache_dtype=kv_cache_dtype)

    @property
    def gpu(self) -> GpuSpec:
        """The GPU."""
        return self.deployed.gpu

    @property
    def model(self) -> ModelSpec:
        """The model, quantised as it runs."""
        return self.deployed.spec

    @property
    def ceilings(self) -> Ceilings:
        """The roofs of the GPU."""
        return ceilings_of_gpu(self.gpu)

    def ridge(self, dtype: str | None = None) -> float:
        """Return the ridge point, FLOP/byte; of the 16-bit tensor peak by default."""
        return self.ceilings.ridge(dtype)

    def step(self, phase: str, seq_len: int, batch: int = 1) -> PhaseAnalysis:
        """Return one forward pass under the roofs.

        Parameters
        ----------
        phase : str
            ``prefill``: ``seq_len`` new tokens of each request, nothing in the cache;
            ``decode``: one new token of each, ``seq_len`` tokens in the cache.
        seq_len : int
            >= 1 in prefill, >= 0 in decode.
        batch : int
            Requests, >= 1.

        Raises
        ------
        ConfigError
            The phase is unknown, or a number out of range.
        """
        found = phase_of(phase)
        _check_count("seq_len", seq_len, 1 if found is Phase.PREFILL else 0, MOST_TOKENS)
        _check_count("batch", batch, 1, MOST_BATCH)
        return self.deployed.phase(found, seq_len, batch)

    def operational_intensity(self, seq_len: int, phase: str, batch: int = 1) -> float:
        """Return FLOPs per byte of the memory of one forward pass, see `step`."""
        return self.step(phase, seq_len, batch).intensity

    def get_operational_intensity(self, seq_len: int, phase: str) -> float:
        """Return FLOPs per byte of the memory of one request, see `step`."""
        return self.operational_intensity(seq_len, phase)

    def analyze(
        self,
        prompt_len: int,
        gen_tokens: int = 1,
        batch: int = 1,
        measured_time: float | Mapping[str, float] | None = None,
    ) -> Analysis:
        """Return what bounds requests, how far from the roof they are, and what would help.

        Parameters
        ----------
        prompt_len, gen_tokens : int
            Tokens of each request, >= 1. The prompt gives the first token, so there are
            ``gen_tokens - 1`` steps of decode.
        batch : int
            Requests, all at once, >= 1.
        measured_time : float or mapping or None
            Seconds the whole took, > 0; or ``{"prefill": s, "decode": s}``.

        Raises
        ------
        ConfigError
            A number is out of range.
        """
        from blis_sim.roofline.suggestions import suggest

        _check_count("prompt_len", prompt_len, 1, MOST_TOKENS)
        _check_count("gen_tokens", gen_tokens, 1, MOST_TOKENS)
        _check_count("batch", batch, 1, MOST_BATCH)
        times = _times(measured_time, has_decode=gen_tokens > 1)
        analysis = self.deployed.analysis(prompt_len, gen_tokens, batch, times)
        return replace(analysis, suggestions=suggest(self.deployed, analysis))

    def plot_roofline(
        self,
        measured_points: Iterable[MeasuredPoint | Mapping[str, Any]] = (),
        save_path: str | Path = "roofline.png",
        *,
        steps: Iterable[PhaseAnalysis] = (),
    ) -> Path:
        """Draw the roofs with points on them to a ``.png``, ``.svg`` or ``.html`` file.

        Parameters
        ----------
        measured_points : iterable of MeasuredPoint or mapping
            ``name``, ``oi`` in FLOP/byte and ``tflops``.
        save_path : str or Path
            Where to.
        steps : iterable of PhaseAnalysis
            Phases whose kernels are drawn where their roof is.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ConfigError
            A point is wrong, the suffix is another, or the file cannot be written.
        MissingExtraError
            matplotlib (or plotly, for HTML) is not installed.
        """
        from blis_sim.report.roofline_plot_file import write_roofline_plot
        from blis_sim.roofline.points import read_points

        points = read_points(measured_points)
        title = f"{self.model.name} on {self.gpu.name}"
        write_roofline_plot([self.ceilings], points, save_path, title=title, steps=list(steps))
        return Path(save_path)


def phase_of(name: str) -> Phase:
    """Return a phase; ConfigError when the name is another."""
    try:
        return Phase(name.strip().lower())
    except (ValueError, AttributeError):
        raise ConfigError(unknown_name("phase", str(name), list(Phase))) from None


def with_dtype(spec: ModelSpec, dtype: str | None, quantization: str | None) -> ModelSpec:
    """Return a model in another dtype, or quantised.

    Raises
    ------
    ConfigError
        A name is unknown, or the checkpoint is already quantised in another way.
    """
    if dtype is None or dtype.lower() == "auto":
        return spec.with_overrides(None, quantization)
    name = dtype.lower()
    if name in _DTYPES:
        return spec.with_overrides(_DTYPES[name], quantization)
    if name not in known_methods():
        raise ConfigError(unknown_name("dtype", dtype, [*_DTYPES, *known_methods()]))
    if quantization not in {None, name}:
        raise ConfigError(
            f"quantization must agree with dtype {dtype}; got {quantization}; leave one out"
        )
    return spec.with_overrides(None, name)


def _one_of(name: str, value: Any, other_name: str, other: Any) -> Any:
    given = [each for each in (value, other) if each is not None]
    if len(given) != 1:
        got = "both" if given else "neither"
        raise ConfigError(f"{name} (or {other_name}) must be given, once; got {got}")
    return given[0]


def _check_count(name: str, number: object, least: int, most: int) -> None:
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    if not is_whole or not least <= int(str(number)) <= most:
        raise ConfigError(
            f"{name} must be a whole number from {least} to {most:,}; got {number!r}"
        )


def _times(
    measured: float | Mapping[str, float] | None, *, has_decode: bool
) -> dict[Phase | None, float]:
    if measured is None:
        return {}
    if not isinstance(measured, Mapping):
        whole = _seconds("measured_time", measured)
        # Without decode the prefill is the whole.
        return {None: whole} if has_decode else {None: whole, Phase.PREFILL: whole}
    times: dict[Phase | None, float] = {
        phase_of(name): _seconds(f"measured_time[{name!r}]", time_s)
        for name, time_s in measured.items()
    }
    if not has_decode and Phase.DECODE in times:
        raise ConfigError("measured_time must have no decode when gen_tokens is 1; got one")
    if set(times) == ({*Phase} if has_decode else {Phase.PREFILL}):
        times[None] = sum(times.values())
    return times


def _seconds(where: str, value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < float(str(value)) < math.inf:
        raise ConfigError(f"{where} must be seconds above 0; got {value!r}")
    return float(str(value))
