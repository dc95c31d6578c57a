"""The limits of a batch that follow from others unless the user sets them.

The rules are vLLM's: defaults by GPU, ``max_num_batched_tokens >= max_num_seqs``, and whole
prompts only where chunked prefill is off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from blis_sim.catalog.gpus import GpuSpec
from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.config.engine import EngineSettings
from blis_sim.errors import ConfigError
from blis_sim.transformer.kernels import TruncationMethod

ASYNC_SINCE = (0, 14)
"""First release that fixes the next batch while a step runs."""
RESERVE_SINCE = (0, 19)
"""First release that admits only what fits as a whole."""

SEARCH_SINCE = (0, 17)
"""First release whose sampler searches what top-p keeps, not sorts (pull request 33538)."""
FUSED_SINCE = (0, 21)
"""First release whose sampler draws without masking first (pull request 40376)."""

_LARGE_MEMORY_GIB = 70.0


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one step may hold.

    Attributes
    ----------
    max_num_seqs, max_num_batched_tokens : int
        Requests and tokens, >= 1; at least as many tokens as requests.
    notices : tuple of str
        What was derived otherwise than by the defaults.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    notices: tuple[str, ...] = ()


def engine_release(version: str) -> tuple[int, int]:
    """Return (major, minor) of an engine version.

    Parameters
    ----------
    version : str
        ``0.15.1``, ``v0.8.4`` or ``vllm/vllm-openai:v0.8.4``.

    Raises
    ------
    ConfigError
        There is no ``major.minor`` in it.
    """
    match = re.search(r"(?:^|[:v])(\d+)\.(\d+)", version.strip().lower())
    if match is None:
        raise ConfigError(
            "engine.version must be a version such as 0.15.1 or vllm/vllm-openai:v0.8.4; "
            f"got {version!r}"
        )
    return int(match[1]), int(match[2])


def truncation_of(spec: ModelSpec, settings: EngineSettings) -> TruncationMethod:
    """Return how the engine's sampler applies the default top-k and top-p of a model.

    Raises
    ------
    ConfigError
        The engine's version has no ``major.minor``.
    """
    release = engine_release(settings.version)
    samples_from_all = spec.default_top_k == 0 and spec.default_top_p == 1
    if samples_from_all or settings.generation_config == "vllm" or release >= FUSED_SINCE:
        return TruncationMethod.NONE
    return TruncationMethod.SEARCH if release >= SEARCH_SINCE else TruncationMethod.SORT


def schedules_ahead(settings: EngineSettings) -> bool:
    """Return whether the engine, with roofline-v2, forms the next batch while a step runs.

    Raises
    ------
    ConfigError
        The engine's version has no ``major.minor``.
    """
    if settings.async_scheduling == "auto":
        return engine_release(settings.version) >= ASYNC_SINCE
    return settings.async_scheduling


def hides_host(spec: ModelSpec, settings: EngineSettings) -> bool:
    """Return whether the host's work between steps is hidden behind a running step.

    So it is with asynchronous scheduling, unless a repetition penalty has to know the token just
    sampled before it can prepare the next one.

    Raises
    ------
    ConfigError
        The engine's version has no ``major.minor``.
    """
    is_penalised = spec.default_repetition_penalty != 1 and settings.generation_config == "auto"
    return schedules_ahead(settings) and not is_penalised


def default_limits(profile: str, gpu: GpuSpec) -> tuple[int, int]:
    """Return the default (max_num_seqs, max_num_batched_tokens) of a profile on a GPU.

    ``vllm``: 1024 and 8192 on GPUs of at least 70 GiB other than A100, else 256 and 2048
    (``get_batch_defaults`` in vllm/engine/arg_utils.py, 0.15, for the OpenAI server).
    ``blis``: 256 and 2048 everywhere. A GPU of unknown memory counts as small.
    """
    has_memory = (gpu.memory_gib or 0.0) >= _LARGE_MEMORY_GIB
    is_large = has_memory and "a100" not in gpu.name.lower()
    return (1024, 8192) if profile == "vllm" and is_large else (256, 2048)


def batch_limits(settings: EngineSettings, gpu: GpuSpec, max_model_len: int) -> BatchLimits:
    """Return the limits in force.

    Parameters
    ----------
    settings : EngineSettings
        What the user wrote; a limit that is None is derived.
    gpu : GpuSpec
        Selects the defaults.
    max_model_len : int
        Longest sequence, tokens.

    Raises
    ------
    ConfigError
        Limits the user set contradict each other.
    """
    default_seqs, default_tokens = default_limits(settings.defaults, gpu)
    seqs, tokens = settings.max_num_seqs, settings.max_num_batched_tokens
    notices: list[str] = []
    if seqs is not None and tokens is not None:
        if tokens < seqs:
            raise ConfigError(
                f"engine.max_num_batched_tokens must be >= engine.max_num_seqs ({seqs}); "
                f"got {tokens}; raise it or lower engine.max_num_seqs"
            )
    elif tokens is not None:
        seqs = min(default_seqs, tokens)
        if seqs < default_seqs:
            notices.append(
                f"max_num_seqs is {seqs} instead of {default_seqs}: no more than "
                "max_num_batched_tokens"
            )
    else:
        seqs = default_seqs if seqs is None else seqs
        tokens = max(default_tokens, seqs)
        if tokens > default_tokens:
            notices.append(
                f"max_num_batched_tokens is {tokens} instead of {default_tokens}: no less than "
                "max_num_seqs"
            )
    tokens = _whole_prompts(settings, tokens, max_model_len, notices)
    return BatchLimits(seqs, tokens, tuple(notices))


def _whole_prompts(
    settings: EngineSettings, tokens: int, max_model_len: int, notices: list[str]
) -> int:
    """Check the settings of chunked prefill; return the budget that fits whole prompts."""
    threshold = settings.long_prefill_token_threshold
    if threshold > max_model_len:
        raise ConfigError(
            "engine.long_prefill_token_threshold must be <= engine.max_model_len "
            f"({max_model_len} tokens); got {threshold}"
        )
    if settings.enable_chunked_prefill:
        return tokens
    if threshold:
        raise ConfigError(
            "engine.long_prefill_token_threshold must be 0 with chunked prefill off "
            f"(engine.enable_chunked_prefill); got {threshold}; leave one of them out"
        )
    if tokens >= max_model_len:
        return tokens
    if settings.max_num_batched_tokens is not None:
        raise ConfigError(
            f"engine.max_num_batched_tokens must be >= engine.max_model_len ({max_model_len} "
            f"tokens) with chunked prefill off; got {tokens}; raise it or lower "
            "engine.max_model_len"
        )
    notices.append(
        f"max_num_batched_tokens is {max_model_len} instead of {tokens}: with chunked prefill "
        "off a step must hold a whole prompt"
    )
    return max_model_len


def longest_sequence(settings: EngineSettings, spec: ModelSpec) -> int:
    """Return the longest prompt + answer before the KV cache is looked at, tokens.

    Raises
    ------
    ConfigError
        The user asks for more than the model can do.
    """
    limit = spec.max_position_embeddings
    asked = settings.max_model_len
    if asked is not None and asked > limit:
        raise ConfigError(
            f"engine.max_model_len must be <= {limit} tokens, the limit of {spec.name}; "
            f"got {asked}"
        )
    return limit if asked is None else asked


def sequence_in_pool(
    settings: EngineSettings, max_model_len: int, num_kv_blocks: int
) -> tuple[int, str]:
    """Return the longest sequence the KV cache can hold, and a notice when it is lowered.

    Raises
    ------
    ConfigError
        The user asks for more than the pool holds; the message names the largest value.
    """
    pool_tokens = num_kv_blocks * settings.block_size
    if pool_tokens >= max_model_len:
        return max_model_len, ""
    pool = f"{num_kv_blocks} KV blocks of {settings.block_size} tokens"
    if settings.max_model_len is not None:
        raise ConfigError(
            f"engine.max_model_len must be <= {pool_tokens} tokens, all that {pool} hold; got "
            f"{max_model_len}; lower it or raise engine.gpu_memory_utilization"
        )
    return pool_tokens, (
        f"max_model_len is {pool_tokens} instead of {max_model_len}: {pool} hold no more"
    )
