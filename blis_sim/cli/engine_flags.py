"""Flags of ``blis run`` about the deployment, the engine and the latency model."""

from __future__ import annotations

from functools import partial

from blis_sim.cli.flags import Flag, setting
from blis_sim.cli.values import one_of, three_numbers, token_count
from blis_sim.config.policy_names import SCHEDULERS

_DTYPES = {
    "auto": "auto",
    "half": "float16",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "float32": "float32",
}
_KV_DTYPES = {"auto": "auto", "fp8": "fp8", "fp8-e4m3": "fp8", "fp8-e5m2": "fp8"}


def deployment_flags() -> tuple[Flag, ...]:
    """Return the flags that say what runs on what."""
    row = partial(setting, "Deployment")
    return (
        row("--model", "model", "NAME", "Model, long or short name; see 'blis models'."),
        row("--hardware --gpu", "hardware", "NAME", "GPU; see 'blis gpus' (H100)."),
        row(
            "--tensor-parallel-size --tp -tp",
            "engine.tensor_parallel_size",
            "N",
            "GPUs that share every layer (1).",
        ),
        row(
            "--engine-version --vllm-version",
            "engine.version",
            "VERSION",
            "vLLM version: 0.15.1, or an image such as vllm/vllm-openai:v0.8.4.",
        ),
        row(
            "--model-config-folder",
            "latency.model_config_folder",
            "FOLDER",
            "Folder with a config.json of your own.",
        ),
        row(
            "--hardware-config",
            "latency.hardware_config",
            "FILE",
            "Hardware file of your own, JSON in BLIS's form.",
        ),
    )


def engine_flags() -> tuple[Flag, ...]:
    """Return the flags that say how the engine is set up."""
    return (*_limit_flags(), *_memory_flags(), *_switches())


def _limit_flags() -> tuple[Flag, ...]:
    row = partial(setting, "Engine, in the names of vllm serve")
    return (
        row(
            "--engine-defaults",
            "engine.defaults",
            "vllm|blis",
            "Where the next two come from when they are not given: vLLM's defaults for the GPU, "
            "or BLIS's 256 and 2048 (vllm).",
            one_of({"vllm": "vllm", "blis": "blis"}),
        ),
        row(
            "--max-num-seqs --max-num-running-reqs",
            "engine.max_num_seqs",
            "N",
            "Most requests in the running batch.",
        ),
        row(
            "--max-num-batched-tokens --max-num-scheduled-tokens",
            "engine.max_num_batched_tokens",
            "TOKENS",
            "Token budget of one step.",
            token_count,
        ),
        row(
            "--max-model-len",
            "engine.max_model_len",
            "TOKENS",
            "Longest prompt + answer, e.g. 8192 or 8k (the model's limit).",
            token_count,
        ),
        row(
            "--long-prefill-token-threshold",
            "engine.long_prefill_token_threshold",
            "TOKENS",
            "Most prompt tokens of one request in a step (0 = no cap).",
            token_count,
        ),
        row(
            "--scheduling-policy --scheduler",
            "engine.scheduling_policy",
            "POLICY",
            "Order of the queue: fcfs, priority, or sjf = shortest prompt first (fcfs).",
            one_of(SCHEDULERS.meanings),
        ),
    )


def _memory_flags() -> tuple[Flag, ...]:
    row = partial(setting, "Engine, in the names of vllm serve")
    return (
        row(
            "--block-size --block-size-in-tokens",
            "engine.block_size",
            "TOKENS",
            "Tokens per KV block (16).",
        ),
        row(
            "--gpu-memory-utilization",
            "engine.gpu_memory_utilization",
            "FRACTION",
            "Share of the GPU's memory the engine may use (0.9).",
        ),
        row(
            "--num-gpu-blocks-override --total-kv-blocks",
            "engine.num_gpu_blocks_override",
            "N",
            "KV blocks per instance (computed from the memory).",
        ),
        row(
            "--kv-cache-dtype",
            "engine.kv_cache_dtype",
            "auto|fp8",
            "Type of the KV cache (the model's).",
            one_of(_KV_DTYPES),
        ),
        row(
            "--generation-config",
            "engine.generation_config",
            "auto|vllm",
            "Sampling: the checkpoint's top-k and top-p (auto), or none.",
            one_of({"auto": "auto", "vllm": "vllm"}),
        ),
        row(
            "--dtype",
            "engine.dtype",
            "TYPE",
            "Type of unquantised weights and activations (the model's).",
            one_of(_DTYPES),
        ),
        row(
            "--quantization -q",
            "engine.quantization",
            "METHOD",
            "Weight quantisation: fp8, int8, int4, awq or gptq (the model's).",
        ),
    )


def _switches() -> tuple[Flag, ...]:
    rows = (
        ("enable-prefix-caching", "Find blocks of known prefixes in the KV cache (on)."),
        ("enable-chunked-prefill", "Split prompts over steps (on)."),
        (
            "async-scheduling",
            "Fix the next batch while a step runs (engines >= 0.14 with roofline-v2).",
        ),
        ("reserve-full-sequence", "Admit only what fits as a whole (engines >= 0.19)."),
    )
    return tuple(
        Flag(
            names=(f"--{name}",),
            off_names=(f"--no-{name}",),
            path=f"engine.{name.replace('-', '_')}",
            panel="Engine, in the names of vllm serve",
            help=text,
        )
        for name, text in rows
    )


def latency_flags() -> tuple[Flag, ...]:
    """Return the flags that choose the latency model."""
    row = partial(setting, "Latency model")
    return (
        row(
            "--latency-model",
            "latency.model",
            "NAME",
            "auto, blackbox, roofline-v1 or roofline-v2 (auto).",
        ),
        row(
            "--alpha-coeffs",
            "latency.alpha",
            "A0,A1,A2",
            "Blackbox frontend: us, us per prompt token, us per output token.",
            three_numbers,
        ),
        row(
            "--beta-coeffs",
            "latency.beta",
            "B0,B1,B2",
            "Blackbox step: us, us per prefill token, us per decode.",
            three_numbers,
        ),
        row(
            "--coefficients --coefficients-file",
            "latency.coefficients_file",
            "FILE",
            "Coefficients of your own, as blis calibrate writes them: .csv in the layout of "
            "configs/coefficients.csv for blackbox, .yaml for the host model of roofline-v2.",
        ),
        row(
            "--bench-data-path",
            "latency.bench_data_path",
            "FOLDER",
            "Measured kernel tables of your own, for roofline-v2.",
        ),
    )
