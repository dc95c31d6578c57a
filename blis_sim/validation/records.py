"""What was measured: serving runs as a table of them says, with every cell read and typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

WHOLE_RUN = -1
"""Stage of a row with the figures of all stages together, as tables write it."""


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """The figures of one stage, or of the whole run.

    Attributes
    ----------
    stage : int
        As written: a number from 0, or ``WHOLE_RUN``.
    measured : mapping of str to float
        Names of `FIGURES` and what was measured, > 0.
    line : int
        Where it stands in its file, from 1.
    """

    stage: int
    measured: Mapping[str, float]
    line: int = 0

    @property
    def is_whole_run(self) -> bool:
        """Whether it is about all stages together."""
        return self.stage == WHOLE_RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One experiment: a deployment, its load, and what was measured.

    The names are those of the columns; None = the cell is empty.

    Attributes
    ----------
    dataset, exp_id : str
        Together they name it.
    role, workload, note : str
        What it is for, what its load is called, and remarks.
    model, gpu : str
        Of the server.
    tp, dp : int
        GPUs that share every layer; ranks, each with a cache of its own.
    precision : str or None
        Of the weights: one of `PRECISIONS`.
    engine : str or None
        Name and version.
    max_model_len, max_num_seqs, max_num_batched_tokens, num_kv_blocks : int or None
        Settings of the engine.
    gpu_memory_utilization : float or None
        Share of the memory that the engine may use.
    kv_offload : int
        KV blocks in CPU memory, or only whether there are any.
    prefix_caching : bool or None
        Whether it was on.
    prompt_pool, prefix_groups, system_prompt_tokens : int
        Distinct prompts that are sent again and again, system prompts they share, tokens of
        these; 0 = none.
    prompt_tokens, output_tokens : float or None
        Mean lengths, tokens.
    prompt_mix : tuple of pairs
        Lengths of prompts and their shares, instead of ``prompt_tokens``.
    stage_rates, stage_durations_s : tuple of float
        Requests per second and length of each stage.
    stage_gap_s : float or None
        A stage begins so long after the one before has drained; None = at once, drained or not.
    client_cap : int or None
        Most requests outstanding.
    measure_from_s : float
        Only requests sent from then on count.
    requests_file : Path or None
        The arrivals themselves.
    concurrency : int or None
        So many users each have one request open, instead of stages.
    requests_per_user : int
        How many each of them sends, one after the other.
    range_ratio : float or None
        Lengths are drawn evenly from this share of ``prompt_tokens`` and ``output_tokens`` up
        to them; None = they are means.
    kv_cache_dtype : str or None
        ``auto`` or ``fp8``.
    async_scheduling : bool or None
        Whether it was on; None = as in that version of the engine.
    rows : tuple of MeasuredRow
        What was measured.
    source : str
        File and line, for messages.
    """

    dataset: str
    exp_id: str
    model: str
    gpu: str
    role: str = ""
    tp: int = 1
    dp: int = 1
    precision: str | None = None
    engine: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    num_kv_blocks: int | None = None
    kv_offload: int = 0
    prefix_caching: bool | None = None
    workload: str = ""
    prompt_pool: int = 0
    prefix_groups: int = 0
    system_prompt_tokens: int = 0
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    stage_rates: tuple[float, ...] = ()
    stage_durations_s: tuple[float, ...] = ()
    client_cap: int | None = None
    measure_from_s: float = 0.0
    stage_gap_s: float | None = None
    prompt_mix: tuple[tuple[int, float], ...] = ()
    requests_file: Path | None = None
    concurrency: int | None = None
    requests_per_user: int = 10
    range_ratio: float | None = None
    kv_cache_dtype: str | None = None
    async_scheduling: bool | None = None
    rows: tuple[MeasuredRow, ...] = field(default=())
    source: str = ""
