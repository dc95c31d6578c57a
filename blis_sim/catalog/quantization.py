"""What a checkpoint's quantisation means for the size of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blis_sim.errors import CatalogError, nearest

LINEAR_PARTS = ("attention", "experts", "mlp", "shared_experts")
"""Groups of linear layers a checkpoint may quantise; routers, embeddings, norms, the LM head
and vision towers stay in the model's dtype."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the linear layers are stored.

    Attributes
    ----------
    method
        Name of the method (``fp8``, ``compressed-tensors``, ``awq``, ...).
    weight_bits
        Bits of one quantised weight.
    scale_bits
        Bits per weight that scales and zero points add (per-channel scales: 0).
    parts
        Which of ``LINEAR_PARTS`` are quantised.
    """

    method: str
    weight_bits: int
    scale_bits: float = 0.0
    parts: tuple[str, ...] = LINEAR_PARTS


def known_methods() -> dict[str, Quantization]:
    """Return the methods whose bits follow from their name.

    Groups of 128 weights share a 16-bit scale (and with AWQ or GPTQ a 4-bit zero point),
    32 an 8-bit scale in MXFP4 (OCP microscaling 1.0), 16 an 8-bit scale in NVFP4, 64 a
    32-bit scale in bitsandbytes' NF4.
    """
    int4, int4_zero_points = 16 / 128, (16 + 4) / 128
    table = [
        Quantization("fp8", 8),
        Quantization("fbgemm-fp8", 8),
        Quantization("int8", 8),
        Quantization("w8a8", 8),
        Quantization("w4a16", 4, int4),
        Quantization("int4", 4, int4),
        Quantization("awq", 4, int4_zero_points),
        Quantization("gptq", 4, int4_zero_points),
        Quantization("bitsandbytes", 4, 32 / 64),
        Quantization("mxfp4", 4, 8 / 32),
        Quantization("nvfp4", 4, 8 / 16),
    ]
    return {entry.method: entry for entry in table}


def quantization_from_name(name: str) -> Quantization | None:
    """Return the quantisation a model's name announces (``...-FP8``, ``...-AWQ``), or None."""
    methods = known_methods()
    words = re.split(r"[-_./\s]+", name.casefold())
    if "gptq" in words and "int8" in words:
        return Quantization("gptq", 8, (16 + 8) / 128)
    return next((methods[word] for word in words if word in methods), None)


def quantization_from_config(
    config: Mapping[str, Any], *, num_layers: int, source: str
) -> Quantization | None:
    """Return the quantisation described by a ``quantization_config``.

    Parameters
    ----------
    config
        The value of that key, as published.
    num_layers
        Layers of the model: a list of exempted modules that names single layers counts for
        a part when it names at least half of them.
    source
        File and key, for messages.

    Returns
    -------
    Quantization or None
        None when only activations or the KV cache are quantised.

    Raises
    ------
    CatalogError
        When method or bits are missing or unknown.
    """
    method = str(config.get("quant_method", "")).casefold().replace("-", "_")
    if not method:
        raise CatalogError(f"{source}.quant_method must be the name of a method; it is missing")
    stored = _stored_bits(config, method, source)
    if stored is None:
        return None
    bits, scale_bits = stored
    exempted = _exempted_parts(config, num_layers)
    parts = tuple(part for part in LINEAR_PARTS if part not in exempted)
    return Quantization(method.replace("_", "-"), bits, scale_bits, parts)


def _stored_bits(config: Mapping[str, Any], method: str, source: str) -> tuple[int, float] | None:
    """Return (bits of a weight, bits of its share of the scales)."""
    if "config_groups" in config:
        return _grouped_bits(config["config_groups"], f"{source}.config_groups")
    algorithm = str(config.get("quant_algo", method)).casefold()
    if algorithm in {"fp8", "fbgemm_fp8", "modelopt"}:
        return 8, _block_scale_bits(config.get("weight_block_size"))
    if algorithm in {"mxfp4", "nvfp4"}:
        known = known_methods()[algorithm]
        return known.weight_bits, known.scale_bits
    if algorithm == "bitsandbytes":
        return (4, 32 / 64) if config.get("load_in_4bit") else (8, 0.0)
    for key in ("bits", "w_bit", "weight_bits"):
        if key in config:
            bits = _bits(config[key], f"{source}.{key}")
            group = config.get("group_size", config.get("q_group_size", 128))
            return bits, _group_scale_bits(group, 16 + bits)
    close = ", ".join(nearest(method, [*known_methods(), "compressed-tensors"]))
    raise CatalogError(
        f"{source}.quant_method must be a known method or come with 'bits'; got {method!r}; "
        f"nearest: {close}"
    )


def _bits(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= 16:
        raise CatalogError(f"{where} must be a whole number of bits, 2 to 16; got {value!r}")
    return value


def _group_scale_bits(group_size: object, bits_per_group: int) -> float:
    """Return the bits per weight of one scale per ``group_size`` weights (<= 0: a channel)."""
    if isinstance(group_size, int) and group_size > 0:
        return bits_per_group / group_size
    return 0.0


def _block_scale_bits(block: object) -> float:
    """Return the bits per weight of one 32-bit scale per block of rows x columns."""
    if isinstance(block, list) and len(block) == 2 and all(isinstance(b, int) for b in block):
        return 32.0 / max(1, int(block[0]) * int(block[1]))
    return 0.0


def _grouped_bits(groups: object, where: str) -> tuple[int, float] | None:
    """Read compressed-tensors' ``config_groups``; the group that targets Linear counts."""
    if not isinstance(groups, Mapping):
        raise CatalogError(f"{where} must be an object of groups; got {groups!r}")
    candidates = [g for g in groups.values() if isinstance(g, Mapping) and g.get("weights")]
    if not candidates:
        return None
    linear = [g for g in candidates if "Linear" in g.get("targets", ())]
    weights = (linear or candidates)[0]["weights"]
    if not isinstance(weights, Mapping):
        raise CatalogError(f"{where}.*.weights must be an object; got {weights!r}")
    bits = _bits(weights.get("num_bits"), f"{where}.*.weights.num_bits")
    is_float = weights.get("type") == "float"
    per_group = (8 if is_float and bits == 4 else 16) + (
        0 if weights.get("symmetric", True) else bits
    )
    return bits, _group_scale_bits(weights.get("group_size"), per_group)


_EXEMPTION_KEYS = ("ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules")
_NEVER_QUANTIZED = re.compile(
    r"vision|visual|projector|lm_head|embed|norm|router|shared_expert_gate|(^|[.*_])gate\W*$"
)


def _exempted_parts(config: Mapping[str, Any], num_layers: int) -> set[str]:
    """Return the parts whose modules the checkpoint leaves unquantised.

    Entries are module names, prefixes, globs, class names or ``re:`` patterns, so they are
    recognised by the words they contain.
    """
    layers_named: dict[str, set[int]] = {}
    exempted: set[str] = set()
    for entry in _exemptions(config):
        part = _part_of(entry.casefold())
        if part is None:
            continue
        layer = re.search(r"layers\\?\.(\d+)", entry)
        if layer is None:
            exempted.add(part)
        else:
            layers_named.setdefault(part, set()).add(int(layer.group(1)))
    exempted |= {part for part, named in layers_named.items() if 2 * len(named) >= num_layers}
    return exempted


def _exemptions(config: Mapping[str, Any]) -> Iterable[str]:
    for key in _EXEMPTION_KEYS:
        for entry in config.get(key) or ():
            if isinstance(entry, str):
                yield entry


def _part_of(entry: str) -> str | None:
    if _NEVER_QUANTIZED.search(entry):
        return None
    if "shared_expert" in entry:
        return "shared_experts"
    if "expert" in entry:
        return "experts"
    if "attn" in entry or "attention" in entry:
        return "attention"
    if "mlp" in entry or "feed_forward" in entry:
        return "mlp"
    return None
