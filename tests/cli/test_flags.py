from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from blis_sim.cli.flag_help import flag_help
from blis_sim.cli.flags import Flag, Typed, normalized
from blis_sim.cli.run_flags import run_flags
from blis_sim.cli.settings import in_flags
from blis_sim.config.draft import ScenarioDraft

ECOSYSTEM = Path(__file__).resolve().parents[3] / "shared" / "ecosystem.md"

# What every user of vLLM and BLIS types, whether this version can do it or not.
VLLM_SERVE = """
--model --tensor-parallel-size -tp --pipeline-parallel-size -pp --data-parallel-size -dp
--enable-expert-parallel --max-model-len --max-num-seqs --max-num-batched-tokens --block-size
--gpu-memory-utilization --num-gpu-blocks-override --kv-cache-dtype --enable-prefix-caching
--no-enable-prefix-caching --enable-chunked-prefill --no-enable-chunked-prefill
--long-prefill-token-threshold --scheduling-policy --dtype --quantization --seed
--async-scheduling --no-async-scheduling
"""
VLLM_BENCH = """
--request-rate --burstiness --max-concurrency --num-prompts --dataset-name --random-input-len
--random-output-len --random-range-ratio --random-prefix-len --ramp-up-strategy --goodput
--percentile-metrics --metric-percentiles --save-result --save-detailed --result-dir
--result-filename
"""
BLIS = """
--model --model-config-folder --hardware-config --bench-data-path --hardware --tp
--vllm-version --workload --rate --num-requests --num-instances --seed --horizon
--alpha-coeffs --beta-coeffs --total-kv-blocks --block-size-in-tokens --max-num-running-reqs
--max-num-scheduled-tokens --long-prefill-token-threshold --prompt-tokens
--prompt-tokens-stdev --prompt-tokens-min --prompt-tokens-max --output-tokens
--output-tokens-stdev --output-tokens-min --output-tokens-max --prefix-tokens
--routing-policy --routing-scorers --admission-policy --token-bucket-capacity
--token-bucket-refill-rate --scheduler --results-path --workload-spec --policy-config
--max-model-len --priority-policy --snapshot-refresh-interval --workload-traces-filepath
--max-prompts
"""


def spellings() -> list[str]:
    return [name for flag in run_flags() for name in (*flag.names, *flag.off_names)]


@pytest.mark.parametrize("names", [VLLM_SERVE, VLLM_BENCH, BLIS], ids=["serve", "bench", "blis"])
def test_the_names_users_know_are_there(names: str) -> None:
    """Every flag of vLLM and BLIS that concerns a simulation is read."""
    assert set(names.split()) - set(spellings()) == set()


@pytest.mark.skipif(not ECOSYSTEM.is_file(), reason=f"the list of names is not there: {ECOSYSTEM}")
def test_the_list_of_blis_names_is_complete() -> None:
    """The list above is the one of the reference text."""
    text = ECOSYSTEM.read_text()
    blis = text[text.index("BLIS names that must work") : text.index("## vllm bench serve")]
    known = set(spellings())
    assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", blis)) - known == set()


def test_every_spelling_means_one_flag() -> None:
    """A name stands in the table once, with hyphens."""
    counts = Counter(spellings())
    assert [name for name, count in counts.items() if count > 1] == []
    assert [name for name in counts if "_" in name] == []
    keys = Counter(flag.key for flag in run_flags())
    assert max(keys.values()) == 1


def test_every_path_is_a_setting() -> None:
    """A flag sets something that the scenario has."""
    for flag in run_flags():
        if flag.path and flag.key != "goodput":
            ScenarioDraft().set(flag.path, None, flag.names[0])


def test_underscores_in_flags_are_hyphens() -> None:
    """Values keep theirs."""
    arguments = ["run", "--max_num_seqs", "a_b", "--result_dir=x_y", "-tp", "1", "--"]
    assert normalized(arguments) == [
        "run",
        "--max-num-seqs",
        "a_b",
        "--result-dir=x_y",
        "-tp",
        "1",
        "--",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--goodput", "ttft:5", "tpot:6"], ["--goodput", "ttft:5 tpot:6"]),
        (["--goodput=ttft:5", "tpot:6"], ["--goodput=ttft:5 tpot:6"]),
        (
            ["--goodput", "ttft:5", "tpot:6", "e2el:7", "--seed", "1"],
            ["--goodput", "ttft:5 tpot:6 e2el:7", "--seed", "1"],
        ),
        (["--goodput", "ttft:5", "stray"], ["--goodput", "ttft:5", "stray"]),
        (["--vllm-version", "v", "a:b"], ["--vllm-version", "v", "a:b"]),
    ],
)
def test_goodput_takes_several_values(arguments: list[str], expected: list[str]) -> None:
    """As with vLLM, limits follow each other."""
    assert normalized(arguments, run_flags()) == expected


def test_help_has_every_name_in_full() -> None:
    """No name is cut off, no line is longer than the terminal, no later flag is offered."""
    text = flag_help("blis run [FLAGS]", "About.", run_flags())
    shown = [name for flag in run_flags() if flag.panel for name in flag.names]
    words = set(re.findall(r"-[\w-]+", text))
    assert set(shown) - words == set()
    assert "--pipeline-parallel-size" not in words
    assert max(map(len, text.splitlines())) <= 100


def test_messages_speak_of_the_flags_that_were_typed() -> None:
    """A path of a setting becomes the flag; other words stay."""
    table = {flag.names[0]: flag for flag in run_flags()}

    def translated(message: str, flag: Flag, name: str) -> str:
        return in_flags(message, [Typed(flag, name, "")])

    model, seqs = table["--model"], table["--max-num-seqs"]
    mean = table["--prompt-tokens"]
    assert translated("model must be x", model, "--model") == "--model must be x"
    assert translated("the model must be x", model, "--model") == "the model must be x"
    message = "engine.max_num_seqs must be 1; my.engine.max_num_seqs.yaml"
    assert translated(message, seqs, "--max-num-running-reqs") == (
        "--max-num-running-reqs must be 1; my.engine.max_num_seqs.yaml"
    )
    assert translated("max_num_seqs must be 1", seqs, "--max-num-seqs").startswith("--max-num")
    message = "workload.prompt must not be set; workload.prompt.min is 2"
    assert translated(message, mean, "--prompt-tokens") == (
        "--prompt-tokens must not be set; workload.prompt.min is 2"
    )
