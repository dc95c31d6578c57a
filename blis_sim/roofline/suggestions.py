"""What would help: changes, each quantified by running the analysis again with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from blis_sim.catalog.gpus import list_gpus, same_gpu_key
from blis_sim.catalog.model_spec import valid_tensor_parallel
from blis_sim.roofline.analysis import Analysis, Suggestion, SuggestionKind
from blis_sim.roofline.analyzer import MOST_BATCH, Deployed

_WORTHWHILE = 1.01
_NEXT_DOUBLING = 1.1
"""A batch is doubled as long as it gains this."""
_LARGEST_BATCH = 1024
_MOST_TP = 8
_MOST_GPUS = 3
_FORMATS = (("fp8", "weights in fp8"), ("awq", "weights in int4 (AWQ)"))


def suggest(deployed: Deployed, now: Analysis) -> tuple[Suggestion, ...]:
    """Return the changes that raise throughput or speed at the roof, the largest gain first.

    Parameters
    ----------
    deployed : Deployed
        What runs now.
    now : Analysis
        Its analysis.

    Notes
    -----
    A larger batch and other GPUs are proposed where weights and KV cache fit into their memory.
    Tensor parallelism is over the fewest GPUs, up to 8, that make them fit; a note says when
    they do not.
    Of other GPUs the three with the largest gain are kept. int4 weights are AWQ's: groups of
    128 with a scale and a zero point.
    """
    found = [
        *_batching(deployed, now),
        *_quantization(deployed, now),
        *_tensor_parallel(deployed, now),
        *_other_gpus(deployed, now),
    ]
    useful = [each for each in found if max(each.gain, each.speedup) >= _WORTHWHILE]
    return tuple(sorted(useful, key=lambda each: -each.gain))


def _compared(
    kind: SuggestionKind, change: str, now: Analysis, then: Analysis, note: str = ""
) -> Suggestion:
    speedup = now.time_s / then.time_s
    gain = speedup * then.batch / now.batch
    if then.fits is False:
        note = "; ".join(filter(None, [note, "weights and KV cache do not fit into the memory"]))
    return Suggestion(
        kind=kind,
        change=change,
        gain=gain,
        gain_per_gpu=gain * now.tp / then.tp,
        speedup=speedup,
        bottleneck=then.bottleneck,
        note=note,
    )


def _again(deployed: Deployed, now: Analysis, batch: int | None = None) -> Analysis:
    size = now.batch if batch is None else batch
    return deployed.analysis(now.prompt_len, now.gen_tokens, size)


def _batching(deployed: Deployed, now: Analysis) -> Iterator[Suggestion]:
    tokens = now.prompt_len + now.gen_tokens - 1
    best = now
    while best.batch < min(_LARGEST_BATCH, MOST_BATCH):
        if deployed.fits(tokens, 2 * best.batch) is False:
            break
        then = _again(deployed, now, 2 * best.batch)
        if 2 * best.time_s / then.time_s < _NEXT_DOUBLING:
            break
        best = then
    if best is not now:
        change = f"batch {best.batch} instead of {now.batch}"
        yield _compared(SuggestionKind.BATCHING, change, now, best)


def _quantization(deployed: Deployed, now: Analysis) -> Iterator[Suggestion]:
    kind = SuggestionKind.QUANTIZATION
    if deployed.spec.quantization is None:
        for method, words in _FORMATS:
            spec = deployed.spec.with_overrides(None, method)
            yield _compared(kind, words, now, _again(replace(deployed, spec=spec), now))
    if deployed.kv_cache_dtype == "auto":
        then = _again(replace(deployed, kv_cache_dtype="fp8"), now)
        yield _compared(kind, "KV cache in fp8", now, then)


def _tensor_parallel(deployed: Deployed, now: Analysis) -> Iterator[Suggestion]:
    larger = [tp for tp in valid_tensor_parallel(deployed.spec, _MOST_TP) if tp > deployed.tp]
    if not larger:
        return
    found = [_again(replace(deployed, tp=tp), now) for tp in larger]
    then = next((each for each in found if each.fits is not False), found[0])
    note = ""
    if then.link_s is None:
        note = f"without communication: {deployed.gpu.name} has no NVLink, or it is not known"
    change = f"tensor parallelism over {then.tp} GPUs instead of {now.tp}"
    yield _compared(SuggestionKind.TENSOR_PARALLEL, change, now, then, note)


def _other_gpus(deployed: Deployed, now: Analysis) -> Iterator[Suggestion]:
    gpus = list_gpus()
    own = same_gpu_key(deployed.gpu.name, gpus)
    found = []
    for gpu in gpus:
        if same_gpu_key(gpu.name, gpus) == own:
            continue
        then = _again(replace(deployed, gpu=gpu), now)
        if then.fits is not False:
            note = "" if then.link_s is not None else "without communication"
            change = f"{gpu.name} instead of {deployed.gpu.name}"
            found.append(_compared(SuggestionKind.GPU, change, now, then, note))
    yield from sorted(found, key=lambda each: -each.gain)[:_MOST_GPUS]
