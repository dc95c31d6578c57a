"""What an analysis says: of each kernel, of each phase, and of whole requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from blis_sim.roofline.totals import Phase
from blis_sim.roofline.work import Bottleneck, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelAnalysis(Work):
    """All executions of one kind of kernel in a phase.

    Attributes
    ----------
    name : str
        What it computes in the model.
    count : int
        Executions.
    dtype : str or None
        Format it is computed in; None = it only moves data.
    """

    name: str
    count: int
    dtype: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseAnalysis(Work):
    """Prefill or decode of a batch on one GPU of the tensor-parallel group.

    Attributes
    ----------
    phase : Phase
    batch : int
        Requests.
    seq_len : int
        Prefill: tokens of each prompt. Decode: tokens in the cache of each request before the
        first step.
    num_steps : int
        Forward passes: 1 in prefill, one for each token of a request in decode.
    kernels : tuple of KernelAnalysis
        In the order of execution; their FLOPs, bytes and messages add up to those of the phase.
    """

    phase: Phase
    batch: int
    seq_len: int
    num_steps: int
    kernels: tuple[KernelAnalysis, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed, of all requests."""
        return self.batch * (self.seq_len if self.phase is Phase.PREFILL else self.num_steps)

    @property
    def kernels_s(self) -> float:
        """Least time when kernels run one after the other, s: the sum of their roofs.

        At least ``roof_s``, which lets arithmetic of one overlap with the bytes of another.
        """
        return sum(kernel.roof_s for kernel in self.kernels)

    @property
    def time_s(self) -> float:
        """``roof_s`` and the least time of the messages, as far as it is known, s."""
        return self.roof_s + (self.link_s or 0.0)


class SuggestionKind(StrEnum):
    """What could be changed."""

    BATCHING = "batching"
    QUANTIZATION = "quantization"
    TENSOR_PARALLEL = "tensor-parallel"
    GPU = "gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A change, and what the analysis says when it is run again with it.

    Attributes
    ----------
    kind : SuggestionKind
    change : str
        In words: ``batch 64 instead of 1``.
    gain : float
        Requests/s of the deployment after over before, at the roof; > 1 = better.
    gain_per_gpu : float
        The same per GPU.
    speedup : float
        Time of a request before over after, at the roof; below 1 it takes longer.
    bottleneck : Bottleneck
        What bounds it afterwards.
    note : str
        What the figures leave out; empty = nothing.
    """

    kind: SuggestionKind
    change: str
    gain: float
    gain_per_gpu: float
    speedup: float
    bottleneck: Bottleneck
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis(Work):
    """Requests from their prompt to their last token, on one GPU of the group.

    Attributes
    ----------
    gpu, model : str
        Names.
    tp : int
        GPUs that share every layer.
    prompt_len, gen_tokens : int
        Tokens of each request.
    batch : int
        Requests, all at once.
    prefill : PhaseAnalysis
        Of the prompts; it gives the first token of each answer.
    decode : PhaseAnalysis or None
        Of the other tokens; None when there is one token.
    memory_bytes : int
        What weights and KV cache take on one GPU.
    fits : bool or None
        Whether that is within 90 % of the GPU's memory; None = the memory is not known.
    suggestions : tuple of Suggestion
        What would help, the largest gain first.
    """

    gpu: str
    model: str
    tp: int
    prompt_len: int
    gen_tokens: int
    batch: int
    prefill: PhaseAnalysis
    decode: PhaseAnalysis | None
    memory_bytes: int
    fits: bool | None
    suggestions: tuple[Suggestion, ...] = field(default=())

    @property
    def phases(self) -> tuple[PhaseAnalysis, ...]:
        """The phases there are."""
        return tuple(self._phases())

    def _phases(self) -> Iterator[PhaseAnalysis]:
        yield self.prefill
        if self.decode is not None:
            yield self.decode

    @property
    def roof_s(self) -> float:
        """Least time, s: the phases run one after the other."""
        return sum(phase.roof_s for phase in self._phases())

    @property
    def time_s(self) -> float:
        """``roof_s`` and the least time of the messages, as far as it is known, s."""
        return sum(phase.time_s for phase in self._phases())

    @property
    def bottleneck(self) -> Bottleneck:
        """What bounds the phase that takes most of the time at the roof."""
        return max(self._phases(), key=lambda phase: phase.roof_s).bottleneck
