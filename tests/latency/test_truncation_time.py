"""What top-k and top-p cost: published figures again, and which engines pay them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blis_sim.catalog.models import load_model
from blis_sim.config.engine import EngineSettings
from blis_sim.engine.limits import hides_host, truncation_of
from blis_sim.errors import CatalogError
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.kernel_tables.tiles import TILE_ROWS
from blis_sim.latency.kernel_tables.truncation_time import truncation_us
from blis_sim.latency.roofline_v2.host import HostModel, rank_wait
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import Truncation, TruncationMethod

from .roofline_v2_built import real_model, shipped_tables

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def at(
    rows: float,
    method: TruncationMethod,
    *,
    vocab: int = 131_072,
    has_top_k: bool = False,
    num_sms: int | None = 132,
) -> float:
    kernel = Truncation("truncation", 1, vocab, method, has_top_k)
    return float(truncation_us(kernel, np.array([rows]), num_sms)[0])


@pytest.mark.parametrize(
    ("has_top_k", "published_us", "tolerance"), [(False, 1099, 0.02), (True, 181, 0.05)]
)
def test_search_as_published(has_top_k: bool, published_us: float, tolerance: float) -> None:
    """56 rows of 131,072 logits (pull request 33538): not among the constants."""
    us = at(56, TruncationMethod.SEARCH, has_top_k=has_top_k)
    assert us == pytest.approx(published_us, rel=tolerance)


@pytest.mark.parametrize(("rows", "published_us"), [(128, 626), (512, 1694)])
def test_sort_as_published(rows: int, published_us: float) -> None:
    """32,768 logits on a B200, top-p (pull request 40376): another GPU, none of the constants."""
    us = at(rows, TruncationMethod.SORT, vocab=32_768, num_sms=148)
    assert us == pytest.approx(published_us, rel=0.2)


def test_sorting_is_linear_in_rows_vocabulary_and_sms() -> None:
    """Beyond its launches."""
    launch = at(1e-9, TruncationMethod.SORT)
    one = at(1, TruncationMethod.SORT) - launch
    assert at(10, TruncationMethod.SORT) - launch == pytest.approx(10 * one)
    assert at(1, TruncationMethod.SORT, vocab=65_536) - launch == pytest.approx(one / 2)
    assert at(1, TruncationMethod.SORT, num_sms=66) - launch == pytest.approx(2 * one)
    assert at(1, TruncationMethod.SORT, num_sms=None) - launch == pytest.approx(one)


def test_few_rows_are_sorted_by_newer_engines_too() -> None:
    """Below 8 rows."""
    assert at(7, TruncationMethod.SEARCH) == at(7, TruncationMethod.SORT)
    assert at(8, TruncationMethod.SEARCH) != at(8, TruncationMethod.SORT)


@pytest.mark.parametrize(
    ("version", "method"),
    [
        ("0.8.4", TruncationMethod.SORT),
        ("0.16.0", TruncationMethod.SORT),
        ("0.17.0", TruncationMethod.SEARCH),
        ("0.20.2", TruncationMethod.SEARCH),
        ("0.21.0", TruncationMethod.NONE),
    ],
)
def test_engine_decides(version: str, method: TruncationMethod) -> None:
    """Sorting up to 0.16, searching up to 0.20, then neither."""
    assert truncation_of(load_model(LLAMA), EngineSettings(version=version)) is method


def test_model_decides() -> None:
    """Without top-k and top-p of its own, or with vllm's neutral ones, nothing is masked."""
    plain = load_model("mistralai/Mistral-Nemo-Instruct-2407")
    assert truncation_of(plain, EngineSettings()) is TruncationMethod.NONE
    neutral = EngineSettings(generation_config="vllm")
    assert truncation_of(load_model(LLAMA), neutral) is TruncationMethod.NONE
    assert load_model(LLAMA).default_top_p == 0.9
    assert load_model("Qwen/Qwen3-14B").default_top_k == 20


def write_model(folder: Path, generation: object | None) -> Path:
    shipped = load_model(LLAMA)
    config = {
        "model_type": "llama",
        "num_hidden_layers": shipped.num_layers,
        "hidden_size": shipped.hidden_size,
        "num_attention_heads": shipped.num_attention_heads,
        "num_key_value_heads": shipped.num_kv_heads,
        "intermediate_size": shipped.intermediate_size,
        "vocab_size": shipped.vocab_size,
        "max_position_embeddings": 8192,
    }
    (folder / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def test_generation_config_of_a_folder(tmp_path: Path) -> None:
    """The file beside a config.json counts; top-k -1 keeps all tokens."""
    assert load_model("own", write_model(tmp_path, None)).default_top_p == 1
    spec = load_model("own", write_model(tmp_path, {"top_k": -1, "top_p": 0.7}))
    assert (spec.default_top_k, spec.default_top_p) == (0, 0.7)


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"top_k": 1.5}, "top_k must be an integer >= -1; got 1.5"),
        ({"top_k": -2}, "top_k must be an integer >= -1; got -2"),
        ({"top_p": 0}, "top_p must be a number above 0, at most 1; got 0"),
        ({"repetition_penalty": -1}, "repetition_penalty must be a number above 0, below 100"),
        ({"top_p": "x"}, "top_p must be a number above 0, at most 1; got 'x'"),
    ],
)
def test_wrong_generation_config(tmp_path: Path, generation: object, message: str) -> None:
    """One line with the file and what is wrong."""
    with pytest.raises(CatalogError, match=message) as caught:
        load_model("own", write_model(tmp_path, generation))
    assert "generation_config.json" in str(caught.value)


def test_steps_take_longer_by_the_kernel() -> None:
    """A step of 64 requests: what sorting 64 rows takes, whatever else is in the step."""
    spec, tables = load_model(LLAMA), shipped_tables("H100")
    plain, sorting = (
        RooflineV2Model(ForwardPass(spec, 1, truncation=method), tables, HostModel())
        for method in (TruncationMethod.NONE, TruncationMethod.SORT)
    )
    added_us = at(64, TruncationMethod.SORT, vocab=spec.vocab_size)
    for batch in (Batch(64, 64_000), Batch(63, 63_000, [PrefillChunk(0, 500)])):
        assert sorting.step_time(batch) - plain.step_time(batch) == pytest.approx(added_us, abs=2)


# -- the rest of what a step costs besides its kernels -------------------------


def test_wait_for_the_slowest_rank() -> None:
    """H(n) - 1: the mean of the greatest of n exponential delays, less one of them."""
    rng = np.random.default_rng(5)
    for tp in (1, 2, 4, 8):
        delays = rng.exponential(1.0, (200_000, tp)).max(axis=1)
        assert rank_wait(tp) == pytest.approx(delays.mean() - 1, abs=0.02)


def test_what_synchronous_engines_add() -> None:
    """The scheduling pass and its part per request, in every step; ranks wait in both."""
    host = HostModel(scheduling_us=500.0, scheduling_per_request_us=20.0, rank_wait_us=4.0)
    spec, tables = load_model(LLAMA), shipped_tables("H100")
    forward = ForwardPass(spec, 2)
    ahead, behind = (
        RooflineV2Model(forward, tables, host, hides_host=flag) for flag in (True, False)
    )
    bare = RooflineV2Model(forward, tables, HostModel())
    for batch in (Batch(7, 7000), Batch(6, 6000, [PrefillChunk(0, 100)])):
        assert behind.step_time(batch) - ahead.step_time(batch) == 500 + 20 * 7
        waited_us = 4.0 * 0.5 * (2 * spec.num_layers + 1)
        assert ahead.step_time(batch) - bare.step_time(batch) == pytest.approx(waited_us, abs=1)


def test_a_repetition_penalty_exposes_the_host() -> None:
    """It needs the token just sampled: nothing is hidden, unless the engine's defaults count."""
    qwen = load_model("Qwen/Qwen2.5-7B-Instruct")
    assert qwen.default_repetition_penalty == 1.05
    assert not hides_host(qwen, EngineSettings())
    assert hides_host(qwen, EngineSettings(generation_config="vllm"))
    assert hides_host(load_model(LLAMA), EngineSettings())
    assert not hides_host(load_model(LLAMA), EngineSettings(version="0.13.0"))
    assert not hides_host(load_model(LLAMA), EngineSettings(async_scheduling=False))


def test_frontend_is_before_the_queue() -> None:
    """Constant and per prompt token."""
    host = HostModel(frontend_us=5000.0, frontend_per_prompt_token_us=2.5)
    model = RooflineV2Model(ForwardPass(load_model(LLAMA), 1), shipped_tables("H100"), host)

    class Request:
        prompt_tokens = 1001

    assert model.queueing_time(Request()) == 5000 + 2502
    assert model.scheduling_time() == model.output_token_time() == 0


@pytest.mark.parametrize("gpu", ["H100", "B200"])
def test_decodes_beside_a_long_prompt(gpu: str) -> None:
    """On Hopper a decode fills a tile beside more new tokens than one has; elsewhere not."""
    model = real_model("Qwen3-14B", gpu, has_host=False)
    decodes = [Batch(n, n * 1000) for n in (100, 101)]

    def more_us(new: int) -> int:
        few, many = (
            model.step_time(replace(batch, prefills=[PrefillChunk(0, new)])) for batch in decodes
        )
        return many - few

    if gpu == "H100":
        assert more_us(TILE_ROWS + 1) > 1.3 * more_us(TILE_ROWS)
    else:
        assert more_us(TILE_ROWS + 1) == pytest.approx(more_us(TILE_ROWS), abs=3)
