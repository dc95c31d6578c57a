"""The scenario: everything a user may say about one simulation.

The command line, YAML files and the Python API are three ways to write the same tree.
Field names are vLLM's; times are in seconds here (``*_s``) and in microseconds inside the
engine.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from blis_sim.config.section import Section
from blis_sim.config.workload import WorkloadSettings

DEFAULT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"
DEFAULT_HARDWARE = "H100"
DEFAULT_ENGINE_VERSION = "0.15.1"


class SchedulingPolicy(StrEnum):
    """Order of the waiting queue."""

    FCFS = "fcfs"
    PRIORITY = "priority"
    SJF = "sjf"


class LatencyModelName(StrEnum):
    """Which latency model answers for the step time."""

    AUTO = "auto"
    BLACKBOX = "blackbox"
    ROOFLINE_V1 = "roofline-v1"
    ROOFLINE_V2 = "roofline-v2"


Switch = Literal["auto"] | bool
"""A setting that follows the engine version unless it is set."""


class EngineSettings(Section):
    """Settings of one engine instance, in vLLM's names."""

    version: str = DEFAULT_ENGINE_VERSION
    """Engine (vLLM) version, e.g. ``0.15.1`` or ``vllm/vllm-openai:v0.8.4``."""
    defaults: Literal["vllm", "blis"] = "vllm"
    """Profile that fills max_num_seqs and max_num_batched_tokens when they are not set."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=1024)
    """GPUs that share every layer."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt + answer, tokens; None = the model's own limit."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Most requests in the running batch."""
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    """Token budget of one step."""
    block_size: int = Field(default=16, ge=1, le=1024)
    """Tokens per KV block."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory the engine may use."""
    num_gpu_blocks_override: int | None = Field(default=None, ge=1)
    """KV blocks per instance; None = computed from the memory."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """Type of the KV cache; auto = the model's dtype."""
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    """Type of unquantised weights and activations; auto = as in the model's config."""
    quantization: Literal["fp8", "int8", "int4", "awq", "gptq"] | None = None
    """Weight quantisation; None = as in the model's config."""
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = Field(default=0, ge=0)
    """Most prompt tokens of one request in a step; 0 = no cap."""
    scheduling_policy: SchedulingPolicy = SchedulingPolicy.FCFS
    async_scheduling: Switch = "auto"
    """Fix the next batch while the current step runs; auto = on for engines >= 0.14 with
    roofline-v2."""
    reserve_full_sequence: Switch = "auto"
    """Admit only when blocks for the whole sequence are free; auto = engines >= 0.19."""


class LatencySettings(Section):
    """Which latency model, and with what data."""

    model: LatencyModelName = LatencyModelName.AUTO
    alpha: tuple[float, float, float] | None = None
    """Blackbox alpha: us, us per prompt token, us per output token."""
    beta: tuple[float, float, float] | None = None
    """Blackbox beta: us, us per prefill token, us per decode."""
    coefficients_file: Path | None = None
    """CSV in the layout of configs/coefficients.csv."""
    model_config_folder: Path | None = None
    """Folder with (or path of) an HF config.json that wins over the shipped one."""
    hardware_config: Path | None = None
    """Hardware file in BLIS JSON form that wins over the shipped one."""
    bench_data_path: Path | None = None
    """Folder of measured kernel tables (roofline-v2)."""

    @field_validator("alpha", "beta")
    @classmethod
    def _finite_and_not_negative(
        cls, value: tuple[float, float, float] | None
    ) -> tuple[float, float, float] | None:
        if value is not None and not all(0 <= v < float("inf") for v in value):
            raise ValueError("must be three finite numbers >= 0 (microseconds)")
        return value


class ClusterSettings(Section):
    """How many engine instances."""

    num_instances: int = Field(default=1, ge=1)


class SloSettings(Section):
    """Limits a request must meet to count towards goodput, milliseconds."""

    ttft_ms: float | None = Field(default=None, gt=0)
    tpot_ms: float | None = Field(default=None, gt=0)
    e2el_ms: float | None = Field(default=None, gt=0)


class Scenario(Section):
    """One simulation, completely described."""

    model: str = DEFAULT_MODEL
    """Model name (long or short)."""
    hardware: str = DEFAULT_HARDWARE
    """GPU name."""
    engine: EngineSettings = EngineSettings()
    latency: LatencySettings = LatencySettings()
    workload: WorkloadSettings = WorkloadSettings()
    cluster: ClusterSettings = ClusterSettings()
    slo: SloSettings = SloSettings()
    seed: int = Field(default=42, ge=0, lt=2**63)
    horizon_s: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Stop the clock here; requests not finished are counted where they are."""
    coalesce: bool = True
    """Run decode steps in exact batches; false = one event per step (same results)."""
