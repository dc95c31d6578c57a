from __future__ import annotations

from typing import Any

import pytest

from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.config.engine import EngineSettings
from blis_sim.engine.limits import (
    BatchLimits,
    batch_limits,
    default_limits,
    engine_release,
    longest_sequence,
    sequence_in_pool,
)
from blis_sim.errors import ConfigError


def limits(max_model_len: int = 4096, gpu: str = "H100", **settings: Any) -> BatchLimits:
    return batch_limits(EngineSettings(**settings), load_gpu(gpu), max_model_len)


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("0.15.1", (0, 15)),
        ("v0.8.4", (0, 8)),
        ("vllm/vllm-openai:v0.10.1.1", (0, 10)),
        ("1.2", (1, 2)),
        ("0.19.0rc1", (0, 19)),
    ],
)
def test_release_of_a_version(version: str, release: tuple[int, int]) -> None:
    """Plain versions and image tags are read."""
    assert engine_release(version) == release


@pytest.mark.parametrize("version", ["", "latest", "vllm/vllm-openai:latest", "15"])
def test_a_version_needs_major_and_minor(version: str) -> None:
    """What decides the scheduling rules is never guessed."""
    with pytest.raises(ConfigError, match=r"engine\.version must be a version such as 0\.15\.1"):
        engine_release(version)


@pytest.mark.parametrize(
    ("profile", "gpu", "expected"),
    [
        ("vllm", "H100", (1024, 8192)),
        ("vllm", "H200", (1024, 8192)),
        ("vllm", "A100-80", (256, 2048)),
        ("vllm", "L40S", (256, 2048)),
        ("blis", "H100", (256, 2048)),
    ],
)
def test_defaults_by_profile_and_gpu(profile: str, gpu: str, expected: tuple[int, int]) -> None:
    """Large GPUs other than A100 get vLLM's large batches."""
    assert default_limits(profile, load_gpu(gpu)) == expected


@pytest.mark.parametrize(
    ("settings", "seqs", "tokens", "notice"),
    [
        ({}, 1024, 8192, ""),
        ({"defaults": "blis"}, 256, 2048, ""),
        ({"max_num_seqs": 7}, 7, 8192, ""),
        ({"max_num_batched_tokens": 4096}, 1024, 4096, ""),
        ({"max_num_batched_tokens": 128}, 128, 128, "max_num_seqs is 128 instead of 1024"),
        ({"max_num_seqs": 9000}, 9000, 9000, "max_num_batched_tokens is 9000 instead of 8192"),
        ({"max_num_seqs": 64, "max_num_batched_tokens": 64}, 64, 64, ""),
    ],
)
def test_what_is_not_set_is_derived(
    settings: dict[str, Any], seqs: int, tokens: int, notice: str
) -> None:
    """The budget is never below the seats, and a notice tells what moved."""
    found = limits(**settings)
    assert (found.max_num_seqs, found.max_num_batched_tokens) == (seqs, tokens)
    assert len(found.notices) == bool(notice)
    assert all(one.startswith(notice) for one in found.notices)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"max_num_seqs": 65, "max_num_batched_tokens": 64},
            r"max_num_batched_tokens must be >= engine\.max_num_seqs \(65\); got 64",
        ),
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 4095},
            r"max_num_batched_tokens must be >= engine\.max_model_len \(4096 tokens\) .*got 4095",
        ),
        (
            {"enable_chunked_prefill": False, "long_prefill_token_threshold": 8},
            r"long_prefill_token_threshold must be 0 with chunked prefill off .*got 8",
        ),
        (
            {"long_prefill_token_threshold": 4097},
            r"long_prefill_token_threshold must be <= engine\.max_model_len \(4096 .*got 4097",
        ),
    ],
)
def test_contradictions_are_errors(settings: dict[str, Any], message: str) -> None:
    """What the user set is never changed."""
    with pytest.raises(ConfigError, match=message):
        limits(**settings)


def test_whole_prompts_raise_a_derived_budget() -> None:
    """With chunked prefill off a step must hold the longest prompt."""
    found = limits(10_000, enable_chunked_prefill=False)
    assert found.max_num_batched_tokens == 10_000
    assert "a step must hold a whole prompt" in found.notices[0]
    assert limits(8192, enable_chunked_prefill=False).notices == ()
    given = limits(enable_chunked_prefill=False, max_num_batched_tokens=4096)
    assert given.max_num_batched_tokens == 4096


def test_longest_sequence_is_the_models_unless_set() -> None:
    """A user may shorten it, not lengthen it."""
    spec = load_model("llama-2-7b-hf")
    assert longest_sequence(EngineSettings(), spec) == 4096
    assert longest_sequence(EngineSettings(max_model_len=100), spec) == 100
    with pytest.raises(ConfigError, match=r"max_model_len must be <= 4096 tokens, .*; got 4097"):
        longest_sequence(EngineSettings(max_model_len=4097), spec)


def test_a_small_pool_lowers_a_derived_length_only() -> None:
    """The largest value that fits is named when the user asked for more."""
    assert sequence_in_pool(EngineSettings(), 160, 10) == (160, "")
    length, notice = sequence_in_pool(EngineSettings(block_size=8), 160, 10)
    assert length == 80
    assert notice.startswith("max_model_len is 80 instead of 160: 10 KV blocks of 8 tokens")
    with pytest.raises(ConfigError, match=r"max_model_len must be <= 160 tokens, .*got 161"):
        sequence_in_pool(EngineSettings(max_model_len=161), 161, 10)
