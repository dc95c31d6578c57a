"""One engine instance, as a user writes it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from blis_sim.config.section import Section

DEFAULT_ENGINE_VERSION = "0.15.1"


class SchedulingPolicy(StrEnum):
    """Order of the waiting queue."""

    FCFS = "fcfs"
    PRIORITY = "priority"
    SJF = "sjf"


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
    data_parallel_size: int = Field(default=1, ge=1, le=1024)
    """Ranks of one server: each is an engine with its own GPUs, cache and queue."""
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
    generation_config: Literal["auto", "vllm"] = "auto"
    """How tokens are sampled: auto = as the checkpoint's generation_config.json says, vllm =
    from all tokens."""
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
