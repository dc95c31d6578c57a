"""Flags of vLLM and BLIS for what this version does not simulate.

They are read, so that a command line from there gets one clear answer: a value that asks for
nothing new is fine, everything else is an error.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from blis_sim.cli.flags import Flag
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.cli.settings import Settings

_ONLY = {
    "--pipeline-parallel-size --pp -pp": "1",
}
_RAMP = ("--ramp-up-strategy", "--ramp-up-start-rps", "--ramp-up-end-rps")
_STAGE = "--set 'workload.stages=[{rate: 1, duration_s: 60, end_rate: 8}]'"
_OF_THE_SERVER = """
host port api-key served-model-name chat-template trust-remote-code download-dir load-format
tokenizer tokenizer-mode revision hf-token uvicorn-log-level root-path response-role
disable-log-requests disable-log-stats enable-log-requests disable-frontend-multiprocessing
enable-auto-tool-choice tool-call-parser reasoning-parser ssl-keyfile ssl-certfile
allowed-origins distributed-executor-backend backend base-url endpoint ignore-eos disable-tqdm
ready-check-timeout-sec metadata label
"""
_NOT_SIMULATED = """
enforce-eager compilation-config cuda-graph-sizes speculative-config enable-lora max-loras
swap-space cpu-offload-gb kv-transfer-config kv-cache-memory-bytes attention-backend
max-num-partial-prefills max-long-partial-prefills disable-custom-all-reduce hf-overrides
limit-mm-per-prompt mm-processor-kwargs decode-context-parallel-size
"""


def later_flags() -> tuple[Flag, ...]:
    """Return the flags; none is shown in the help."""
    return (
        *(_flag(names, only) for names, only in _ONLY.items()),
        *(_flag(name, "", f"leave it out, and describe the ramp: {_STAGE}") for name in _RAMP),
        Flag(
            names=("--enable-expert-parallel",),
            off_names=("--no-enable-expert-parallel",),
            panel="",
            help="Not in this version.",
            apply=_refuse_switch,
        ),
    )


def about_foreign_flag(name: str) -> str:
    """Return what to do about a flag of vLLM that no command reads; empty = it is not known."""
    word = name.removeprefix("--")
    if word in _OF_THE_SERVER.split():
        return f"{name} must be left out: vLLM has it, but it changes nothing that is simulated"
    if word in _NOT_SIMULATED.split():
        return (
            f"{name} must be left out: what it does in vLLM is not simulated, and results are "
            "those of a server without it"
        )
    return ""


def _flag(names: str, only: str, remedy: str = "leave it out") -> Flag:
    return Flag(
        names=tuple(names.split()),
        metavar="VALUE",
        panel="",
        help="Not in this version.",
        apply=partial(_refuse, only, remedy),
    )


def _refuse(only: str, remedy: str, settings: Settings, value: str, name: str) -> None:
    if only and _is_same(value, only):
        return
    wanted = f"be {only}" if only else "not be given"
    raise ConfigError(f"{name} must {wanted} in this version; got {value}; {remedy}")


def _refuse_switch(settings: Settings, value: str, name: str) -> None:
    if not name.startswith("--no-"):
        raise ConfigError(f"{name} must not be given in this version; leave it out")


def _is_same(value: str, only: str) -> bool:
    try:
        return float(value) == float(only)
    except ValueError:
        return value.strip().lower() == only
