"""The words of the page; figures are filled in."""

from __future__ import annotations

OPENING = """
How far predictions of blis_sim {version} are from measured servers.
`scripts/accuracy_report.py` writes this page from the output of `blis validate`; no figure in it
is typed. [How the comparison works](validation.md).

What was fitted to measured servers are the figures of the host model
([configs/host.yaml](../configs/host.yaml), `scripts/fit_host_model.py`), the same for all models
and GPUs: the frontend and the wait for the slowest rank to the `calib` rows, what synchronous
engines add to 30 rows of the silicon sample. Kernels, and what sampling costs, were measured
apart. **Which effects are modelled was decided with the `dev` rows in sight** (sampling with
top-p, decodes beside long prompts and the tile they fill, repetition penalties), though no
figure was fitted to them: on servers nobody has looked at, errors may be larger than on this
page.
"""

SOURCES = {
    "kubecon_h100": ("kubernetes-sigs/inference-perf, KubeCon demonstration", "Apache-2.0"),
    "llmservingsim_bench": ("LLMServingSim, benchmark (casys-kaist)", "MIT"),
    "s2r38": ("experiments published with inference-sim (BLIS)", "none: errors only"),
    "trainval15": ("experiments published with inference-sim (BLIS)", "none: errors only"),
    "blis_training16": ("experiments published with inference-sim (BLIS)", "none: errors only"),
    "residency_qwen3": ("experiments published with inference-sim (BLIS)", "none: errors only"),
    "silicon_sample": ("`silicon_sample.csv` of AIConfigurator (NVIDIA)", "Apache-2.0"),
}
"""Dataset -> source and licence."""

ENGINES = {"vllm": "vLLM", "tensorrt-llm": "TensorRT-LLM", "sglang": "SGLang"}

SILICON = """
AIConfigurator publishes TTFT and TPOT of many servers, each with a fixed number of users; [what
the rows are](../bench_data/serving/README.md#the-silicon-sample). Flags of the servers are known
for some only, and whether figures are means is not said. No throughput is published: here it is
users / E2E on both sides (Little's law), and the measured E2E is TTFT + TPOT x (answer - 1).
What synchronous engines add between steps was fitted to 30 of these rows (a synchronous vLLM
with Qwen3-32B in BF16 on H100, prompts of 1024 and answers of 512 or 1024 tokens); nothing to
the others.
"""

UNSIMULATED = """
- Not simulated: what lies between client and server (the network, connections), KV offload,
  pipeline and expert parallelism, speculative decoding; kernels in NVFP4 were not measured.
- One host model serves all models, GPUs and releases of vLLM; hosts differ.
- Users of a closed loop whose answers are equally long stay in step in the simulation; in a
  benchmark they may drift apart. Their TTFT comes out too long where they are few.
- GPUs without measured kernels borrow those of another; none of them is in these tables.
"""

KNOWN = {
    "kubecon_h100": "a client's TTFT, with connections and a cluster's network; batches are "
    "formed synchronously "
    "([more](../bench_data/serving/README.md#what-is-known-of-the-h100-rows))",
    "Llama-3.1-8B-Instruct on H200": "the servers read prompts faster than the FP8 GEMMs they "
    "consist of: prefix caching or several replicas, not stated",
    "gpt-oss-120b on H100": "some servers held most requests back, by a limit that is not stated: "
    "minutes of TTFT beside a short TPOT; the median is not moved by them",
    "Qwen3-32B on H100": "simulated users stay in step, and all their prompts fit into one step; "
    "with `--set engine.max_num_batched_tokens=2048`, which servers may have had, TTFT is close",
}
"""Part of a group's name -> why its errors are large."""

REPRODUCE = """
## How to reproduce

```sh
make accuracy                              # what is shipped: minutes on two processors
make accuracy SERVING_RUNS=runs.csv        # and a table of your own (docs/validation.md)
blis validate                              # the rows above that may be shown, from any folder
blis validate --silicon                    # a few rows of each deployment; --sample all for all
python scripts/accuracy_report.py --check  # whether this page is what docs/accuracy.json says
```

Of tables that may not be shipped `docs/accuracy.json` keeps errors alone; without SERVING_RUNS
their rows are left out.
"""
