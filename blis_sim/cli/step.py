"""``blis step``: what one engine step is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import note
from blis_sim.cli.flag_command import (
    STDOUT,
    flags_of_run,
    make_command,
    own_options,
    read_settings,
    write_text,
)
from blis_sim.cli.flags import Flag, Typed
from blis_sim.cli.values import token_count
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario
    from blis_sim.latency.base import PrefillChunk
    from blis_sim.latency.selection import Selection
    from blis_sim.report.step_breakdown import DecodeSet

HELP = "Break one engine step down into its kernels."
_MORE = """
The times are roofline-v2's, for one GPU of the tensor-parallel group. --prefill gives prompt
chunks: 2048 new tokens, 2048@1024 = on 1024 tokens already in the KV cache, 512x4 = four of
them. --decode gives requests that compute one token each: 64x1024 = 64 requests with a context
of 1024 tokens. Both may be repeated; together they are one batch.
"""
_OF_RUN = (
    *("--scenario", "--set", "--model", "--hardware", "--tensor-parallel-size"),
    *("--model-config-folder", "--hardware-config", "--kv-cache-dtype", "--dtype"),
    *("--quantization", "--latency-model", "--bench-data-path", "--debug", "--help"),
)
_TOKENS = r"[\d.]{1,12}[kKmM]?"
_COUNT = r"(?P<count>[1-9]\d{0,5})"
_PREFILL = re.compile(rf"(?P<new>{_TOKENS})(?:@(?P<context>{_TOKENS}))?(?:x{_COUNT})?", re.ASCII)
_DECODE = re.compile(rf"{_COUNT}x(?P<context>{_TOKENS})", re.ASCII)
_MOST_TOKENS = 2**20
_MOST_CONTEXT_TOKENS = 2**24


def step_flags() -> tuple[Flag, ...]:
    """Return the flags of the command."""
    panel = "Step"
    return (
        Flag(
            names=("--prefill",),
            metavar="N[@CONTEXT][xCOUNT]",
            panel=panel,
            is_repeatable=True,
            help="Prompt chunks of N new tokens, each on CONTEXT tokens computed before (0).",
        ),
        Flag(
            names=("--decode",),
            metavar="COUNTxCONTEXT",
            panel=panel,
            is_repeatable=True,
            help="Decodes with CONTEXT tokens in the KV cache each.",
        ),
        Flag(
            names=("--json",),
            metavar="FILE|-",
            panel=panel,
            help="Write JSON; - prints it instead of the table.",
        ),
        *flags_of_run(_OF_RUN),
    )


def make_step(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a normalised command line."""
    return make_command("blis step", f"{HELP}\n\n{_MORE}", step_flags(), arguments, _run)


def _run(typed: Sequence[Typed]) -> None:
    options = own_options(typed)
    prefills = list(_prefills(options.get("--prefill", ())))
    decodes = list(_decodes(options.get("--decode", ())))
    _check_batch(prefills, decodes)
    scenario, notices = _scenario(typed, options)
    file = str(options.get("--json", ""))
    if "--json" in options and file != STDOUT:
        from blis_sim.atomic import check_output_path

        check_output_path(file, "--json")

    from blis_sim.latency.roofline_v2.model import RooflineV2Model
    from blis_sim.report.step_breakdown import break_down
    from blis_sim.report.step_table import StepContext, render_step, step_json

    selection = _selection(scenario)
    model = selection.model
    assert isinstance(model, RooflineV2Model)
    step = break_down(model, prefills, decodes)
    forward, tables = model.forward, model.timer.tables
    too_long = _length_notice(forward.spec.max_position_embeddings, prefills, decodes)
    # Tables are read when first needed: only now is it known what is to be said about them.
    said = (*notices, too_long, *selection.notices, *tables.notices)
    context = StepContext(
        model=forward.spec.name,
        gpu=tables.gpu.name,
        tensor_parallel_size=forward.tp,
        dtype=forward.dtype,
        kv_cache_dtype=forward.kv_dtype,
        quantization=forward.spec.quantization,
        prefills=prefills,
        decodes=decodes,
        source=selection.source,
        notices=list(dict.fromkeys(filter(None, said))),
    )
    if file:
        write_text(step_json(step, context), file)
    if file != STDOUT:
        write_text(render_step(step, context), STDOUT)
        return
    for notice in context.notices:
        note(notice)


def _scenario(typed: Sequence[Typed], options: dict[str, Any]) -> tuple[Scenario, list[str]]:
    """Return the deployment with its files found, and notices about them."""
    from blis_sim.catalog.locate import locate
    from blis_sim.config.latency import LatencyModelName
    from blis_sim.config.tree import with_paths

    settings = read_settings(options)
    settings.apply(typed)
    scenario, notices = settings.build(), list(settings.notices)
    if scenario.latency.model not in {LatencyModelName.AUTO, LatencyModelName.ROOFLINE_V2}:
        raise ConfigError(
            f"latency.model must be roofline-v2; got {scenario.latency.model.value}, which does "
            "not know kernels; leave it out"
        )

    def located(path: Path) -> Path:
        found = locate(path)
        notices.extend(filter(None, [found.notice]))
        return found.path

    return with_paths(scenario, located), list(dict.fromkeys(notices))


def _selection(scenario: Scenario) -> Selection:
    """Return roofline-v2 for a deployment, whether or not the model fits into the memory."""
    from blis_sim.catalog.gpus import load_gpu
    from blis_sim.catalog.model_spec import check_tensor_parallel
    from blis_sim.catalog.models import load_model
    from blis_sim.config.latency import LatencyModelName
    from blis_sim.engine.limits import hides_host, truncation_of
    from blis_sim.latency.selection import Deployment, select_latency

    engine, latency = scenario.engine, scenario.latency
    published = load_model(scenario.model, latency.model_config_folder)
    spec = published.with_overrides(engine.dtype, engine.quantization)
    check_tensor_parallel(spec, engine.tensor_parallel_size)
    deployment = Deployment(
        model_name=scenario.model,
        spec=spec,
        gpu=load_gpu(scenario.hardware, latency.hardware_config),
        tp=engine.tensor_parallel_size,
        is_as_published=spec == published,
        kv_cache_dtype=engine.kv_cache_dtype,
        truncation=truncation_of(spec, engine),
        hides_host=hides_host(spec, engine),
    )
    forced = latency.model_copy(update={"model": LatencyModelName.ROOFLINE_V2})
    return select_latency(forced, deployment)


def _length_notice(
    limit_tokens: int, prefills: Sequence[PrefillChunk], decodes: Sequence[DecodeSet]
) -> str:
    """Return a warning about a sequence the model cannot have, empty when there is none."""
    lengths = [chunk.context_tokens + chunk.new_tokens for chunk in prefills]
    lengths += [each.context_tokens + 1 for each in decodes]
    longest = max(lengths)
    if longest <= limit_tokens:
        return ""
    return f"a sequence of {longest:,} tokens is longer than the model's limit of {limit_tokens:,}"


def _prefills(given: Iterable[str]) -> Iterator[PrefillChunk]:
    from blis_sim.latency.base import PrefillChunk

    for text in given:
        match = _PREFILL.fullmatch(text.strip())
        if match is None:
            raise ConfigError(
                "--prefill must be new tokens, with their context and how many there are when "
                f"that is not 0 and 1: 2048, 2048@1024, 512x4; got {text!r}"
            )
        new = _tokens(match["new"], "--prefill", least=1, most=_MOST_TOKENS)
        context = _tokens(match["context"] or "0", "--prefill", 0, _MOST_CONTEXT_TOKENS)
        yield from [PrefillChunk(context, new)] * int(match["count"] or 1)


def _decodes(given: Iterable[str]) -> Iterator[DecodeSet]:
    from blis_sim.report.step_breakdown import DecodeSet

    for text in given:
        match = _DECODE.fullmatch(text.strip())
        if match is None:
            raise ConfigError(
                "--decode must be how many requests and their context in tokens, such as "
                f"64x1024; got {text!r}"
            )
        context = _tokens(match["context"], "--decode", 0, _MOST_CONTEXT_TOKENS)
        yield DecodeSet(int(match["count"]), context)


def _tokens(text: str, flag: str, least: int, most: int) -> int:
    tokens = token_count(text, flag)
    if not least <= tokens <= most:
        raise ConfigError(f"{flag} must be from {least} to {most:,} tokens; got {tokens:,}")
    return tokens


def _check_batch(prefills: Sequence[PrefillChunk], decodes: Sequence[DecodeSet]) -> None:
    if not prefills and not decodes:
        raise ConfigError(
            "--prefill or --decode must be given; got neither; try --prefill 2048 --decode 64x1024"
        )
    num_tokens = sum(chunk.new_tokens for chunk in prefills)
    num_tokens += sum(each.num_requests for each in decodes)
    if num_tokens > _MOST_TOKENS:
        raise ConfigError(
            f"--prefill and --decode must be at most {_MOST_TOKENS:,} tokens together; got "
            f"{num_tokens:,}"
        )
