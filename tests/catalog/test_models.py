"""The model catalog: names, shipped configs against published figures, users' own files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from blis_sim.catalog.models import find_model, list_models, load_model, models_dir
from blis_sim.catalog.models import resolve_model_name as resolve
from blis_sim.errors import CatalogError

SHARED = Path(__file__).resolve().parents[3] / "shared"
ENTRIES = list_models()

# Parameters in 1e9: safetensors totals on the model pages of the Hugging Face hub, a tied LM
# head counted once; for DeepSeek the main model without the multi-token-prediction layer, for
# gpt-oss the model card (arXiv:2508.10925, table 1).
PUBLISHED_PARAMETERS = {
    "meta-llama/Llama-2-7b-hf": 6.74,
    "meta-llama/Llama-2-13b-hf": 13.02,
    "meta-llama/Llama-2-70b-hf": 68.98,
    "codellama/CodeLlama-34b-Instruct-hf": 33.74,
    "meta-llama/Meta-Llama-3-8B": 8.03,
    "meta-llama/Meta-Llama-3-70B": 70.55,
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "meta-llama/Llama-3.1-70B-Instruct": 70.55,
    "meta-llama/Llama-3.1-405B-Instruct": 405.85,
    "meta-llama/Llama-3.2-1B-Instruct": 1.236,
    "meta-llama/Llama-3.2-3B-Instruct": 3.213,
    "meta-llama/Llama-3.3-70B-Instruct": 70.55,
    "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF": 70.55,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 108.64,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": 401.58,
    "mistralai/Mistral-7B-Instruct-v0.1": 7.242,
    "mistralai/Mistral-7B-Instruct-v0.3": 7.248,
    "mistralai/Mistral-Nemo-Instruct-2407": 12.248,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23.572,
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": 24.011,
    "mistralai/Mixtral-8x7B-v0.1": 46.70,
    "mistralai/Mixtral-8x22B-v0.1": 140.62,
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.544,
    "Qwen/Qwen2.5-3B-Instruct": 3.086,
    "Qwen/Qwen2.5-7B-Instruct": 7.616,
    "Qwen/Qwen2.5-14B-Instruct": 14.770,
    "Qwen/Qwen2.5-32B-Instruct": 32.764,
    "Qwen/Qwen2.5-72B-Instruct": 72.706,
    "Qwen/Qwen3-0.6B": 0.596,
    "Qwen/Qwen3-1.7B": 1.721,
    "Qwen/Qwen3-4B": 4.022,
    "Qwen/Qwen3-8B": 8.191,
    "Qwen/Qwen3-14B": 14.768,
    "Qwen/Qwen3-32B": 32.762,
    "Qwen/Qwen3-30B-A3B": 30.532,
    "Qwen/Qwen3-235B-A22B": 235.094,
    "microsoft/phi-4": 14.660,
    "google/gemma-2-2b": 2.614,
    "google/gemma-2-9b": 9.242,
    "google/gemma-2-27b": 27.227,
    "google/gemma-3-1b-it": 1.000,
    "google/gemma-3-4b-it": 4.300,
    "google/gemma-3-12b-it": 12.187,
    "google/gemma-3-27b-it": 27.432,
    "01-ai/Yi-34B": 34.389,
    "ibm-granite/granite-3.1-8b-instruct": 8.171,
    "HuggingFaceTB/SmolLM3-3B": 3.075,
    "deepseek-ai/DeepSeek-V2-Lite": 15.706,
    "deepseek-ai/DeepSeek-V3": 671.03,
    "deepseek-ai/DeepSeek-R1": 671.03,
    "openai/gpt-oss-20b": 20.91,
    "openai/gpt-oss-120b": 116.83,
}

# Active parameters in 1e9 as published: Mixtral (arXiv:2401.04088, table 2), Qwen3
# (arXiv:2505.09388, table 2), DeepSeek-V3 (arXiv:2412.19437), Llama 4 (model card), gpt-oss
# (model card, plus the embedding table that it leaves out: 201,088 x 2,880).
PUBLISHED_ACTIVE = {
    "mistralai/Mixtral-8x7B-v0.1": 12.9,
    "mistralai/Mixtral-8x22B-v0.1": 39.1,
    "Qwen/Qwen3-30B-A3B": 3.3,
    "Qwen/Qwen3-235B-A22B": 22.0,
    "deepseek-ai/DeepSeek-V3": 37.0,
    "openai/gpt-oss-20b": 3.61 + 0.579,
    "openai/gpt-oss-120b": 5.13 + 0.579,
}


def test_every_folder_is_in_the_index_and_back() -> None:
    """The index names exactly the folders that hold a config.json."""
    folders = sorted(path.parent.name for path in models_dir().glob("*/config.json"))
    assert folders == [entry.folder for entry in ENTRIES]


def test_no_two_models_share_a_name() -> None:
    """Names, aliases and folders are unique: none would shadow another silently."""
    names = [n.casefold() for e in ENTRIES for n in (e.name, *e.aliases)]
    assert len(names) == len(set(names))
    by_folder = {e.folder: e for e in ENTRIES}
    clashes = [n for n in names if n in by_folder and n not in by_folder[n].aliases]
    assert clashes == []


@pytest.mark.parametrize("folder", [entry.folder for entry in ENTRIES])
def test_every_shipped_config_loads_under_all_its_names(folder: str) -> None:
    """A model loads by folder, long name and aliases, with the same shape each time."""
    entry = find_model(folder)
    assert entry.folder == folder
    spec = load_model(folder)
    assert spec.name == entry.name
    for alias in entry.aliases:
        assert load_model(alias.upper()).num_parameters == spec.num_parameters
        assert find_model(alias) == entry


@pytest.mark.parametrize(("name", "billions"), PUBLISHED_PARAMETERS.items())
def test_parameter_counts_are_the_published_ones(name: str, billions: float) -> None:
    """The config's shapes add up to the published total within 1 %."""
    assert load_model(name).num_parameters == pytest.approx(billions * 1e9, rel=0.01)


def test_every_unquantized_model_has_a_published_count() -> None:
    """No config is shipped whose parameter count was not compared with a published one."""
    checked = {find_model(name).folder for name in PUBLISHED_PARAMETERS}
    counts = {load_model(name).num_parameters for name in PUBLISHED_PARAMETERS}
    unchecked = [
        entry.folder
        for entry in ENTRIES
        if entry.folder not in checked and load_model(entry.folder).num_parameters not in counts
    ]
    # The one vocabulary that differs from its base model's, by 768 tokens.
    assert unchecked == ["mixtral-8x22b-instruct-v0.1"]


@pytest.mark.parametrize(("name", "billions"), PUBLISHED_ACTIVE.items())
def test_active_parameters_are_the_published_ones(name: str, billions: float) -> None:
    """One token passes through the published number of parameters within 2 %."""
    assert load_model(name).num_active_parameters == pytest.approx(billions * 1e9, rel=0.02)


@pytest.mark.parametrize(("name", "gib"), [("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)])
def test_mxfp4_weights_have_the_published_size(name: str, gib: float) -> None:
    """Experts at 4.25 bits and the rest in bf16 give the model card's checkpoint size."""
    assert load_model(name).weight_bytes() / 2**30 == pytest.approx(gib, rel=0.005)


@pytest.mark.parametrize(
    ("spelling", "long_name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("LLAMA-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        (" llama_3.1_8b_instruct ", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B-Instruct"),
        ("llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct"),
        ("llama-2-70b", "meta-llama/Llama-2-70b"),
        ("codellama-34b", "codellama/CodeLlama-34b-Instruct-hf"),
        ("gemma-3-27b", "google/gemma-3-27b-it"),
        ("01-ai/Yi-34B", "01-ai/Yi-34B"),
        ("yi-34b", "01-ai/Yi-34B"),
        ("qwen/qwen3-14b", "Qwen/Qwen3-14B"),
        ("qwen2.5-7b", "Qwen/Qwen2.5-7B"),
        ("mixtral-8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("Mistral-Nemo", "mistralai/Mistral-Nemo-Instruct-2407"),
        ("granite-3.1-8b", "ibm-granite/granite-3.1-8b-instruct"),
    ],
)
def test_spellings_resolve_to_long_names(spelling: str, long_name: str) -> None:
    """Case and separators do not matter; a short name finds the long one."""
    assert resolve(spelling) == long_name
    assert load_model(spelling).name == long_name


def test_base_and_instruct_of_qwen25_differ_in_length() -> None:
    """A base model with a longer context is a config of its own, not an alias."""
    assert load_model("Qwen/Qwen2.5-7B").max_position_embeddings == 131072
    assert load_model("Qwen/Qwen2.5-7B-Instruct").max_position_embeddings == 32768


@pytest.mark.parametrize(
    ("suffix", "bits"), [("fp8-dynamic", 8), ("quantized.w8a8", 8), ("quantized.w4a16", 4)]
)
def test_quantized_variants_have_their_bits(suffix: str, bits: int) -> None:
    """A quantised checkpoint has its base model's shape and its own weight bits."""
    base = load_model("meta-llama/Llama-3.3-70B-Instruct")
    spec = load_model(f"redhatai/llama-3.3-70b-instruct-{suffix}")
    assert (spec.weight_bits, spec.bytes_per_weight) == (bits, bits / 8)
    assert spec.num_parameters == base.num_parameters
    # The embedding table and the LM head (2.1e9 parameters) stay in 16 bits.
    linear_bytes = spec.weight_bytes() - 2 * 2 * 128256 * 8192
    per_weight = bits / 8 + (2 / 128 if bits == 4 else 0)
    assert linear_bytes == pytest.approx(
        (base.num_parameters - 2 * 128256 * 8192) * per_weight, rel=1e-3
    )


def test_every_model_of_the_reference_tables_is_known() -> None:
    """Each model of the coefficient table and the measured runs is found by its name there."""
    tables = [SHARED / "data/coefficients_v061.csv", SHARED / "data/measured/serving_runs.csv"]
    if not all(table.exists() for table in tables):
        pytest.skip("the reference data beside the checkout are absent")
    names = set()
    for table in tables:
        with table.open(encoding="utf-8") as rows:
            names |= {row["model"] for row in csv.DictReader(rows)}
    assert len(names) > 30
    for name in names:
        spec = load_model(name)
        expected = 4 if "w4a16" in name or "gpt-oss" in name else 16
        expected = 8 if any(word in name for word in ("fp8", "w8a8")) else expected
        assert (name, spec.weight_bits) == (name, expected)


def test_unknown_name_lists_the_nearest() -> None:
    """An unknown model is an error with similar names and what else to do."""
    with pytest.raises(CatalogError, match=r"got 'llama-3.1-9b'; nearest: .*Llama-3.1-8B.*folder"):
        load_model("llama-3.1-9b")
    with pytest.raises(CatalogError, match=r"nearest: .*Qwen/Qwen3-14B"):
        resolve("Qwen/Qwen3-15B")
    for name in ("", "x" * 5000, "a\0b"):
        with pytest.raises(CatalogError, match="model must be a known name"):
            load_model(name)


def write_config(folder: Path, **changes: object) -> Path:
    """Write a small valid config.json with some keys changed; return its folder."""
    config: dict[str, object] = {
        "model_type": "llama",
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
    }
    config.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_folder_of_the_user_wins(tmp_path: Path) -> None:
    """With a folder, or the file itself, the shipped config is not looked at."""
    folder = write_config(tmp_path / "mine")
    for given in (folder, folder / "config.json"):
        spec = load_model("llama-3.1-8b-instruct", given)
        assert (spec.name, spec.hidden_size) == ("meta-llama/Llama-3.1-8B-Instruct", 512)
    assert load_model("my/model", folder).name == "my/model"


def test_a_path_serves_as_a_name(tmp_path: Path) -> None:
    """A name the catalog does not know may be a local folder; it gives the model its name."""
    folder = write_config(tmp_path / "tiny-FP8")
    spec = load_model(str(folder))
    assert (spec.name, spec.num_layers, spec.weight_bits) == ("tiny-FP8", 4, 8)


def remove(folder: Path) -> Path:
    (folder / "config.json").unlink()
    return folder


def write_text(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "config.json").write_text(text, encoding="utf-8")
        return folder

    return write


def write_bytes(folder: Path) -> Path:
    (folder / "config.json").write_bytes(b"\xff\xfe{}")
    return folder


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove, r"must hold a config.json; .*config.json is missing"),
        (lambda folder: folder / "nowhere", r"must be an existing folder .*; got .*nowhere"),
        (write_text('{"hidden_size": 1,\n  oops}'), r"config.json:2:3 must be valid JSON"),
        (write_text(""), r"config.json:1:1 must be valid JSON"),
        (write_text("[1, 2]"), r"config.json must hold a JSON object; got list"),
        (write_text("[" * 100_000), r"config.json must be a readable UTF-8 JSON file"),
        (write_bytes, r"config.json must be a readable UTF-8 JSON file"),
        (
            write_text("{}"),
            r"config.json: num_hidden_layers must be a positive integer; .*missing",
        ),
    ],
)
def test_unusable_config_files_are_errors(
    tmp_path: Path, spoil: Callable[[Path], Path], message: str
) -> None:
    """A missing or malformed file is one line that names it, with line and column for JSON."""
    folder = spoil(write_config(tmp_path / "bad"))
    with pytest.raises(CatalogError, match=message) as caught:
        load_model("some/model", folder)
    assert "\n" not in str(caught.value)
