"""Which GEMM and attention shapes are measured: those of models, or given ones."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from blis_sim.catalog.model_spec import ModelSpec, valid_tensor_parallel
from blis_sim.catalog.models import list_models, load_model
from blis_sim.errors import ConfigError
from blis_sim.latency.kernel_tables.shapes import HeadShape
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import DecodeAttention, Gemm

# Engines keep them in 16 bits whatever the weights are quantised to.
_ALWAYS_16_BITS = {"lm_head", "router"}


@dataclass(frozen=True, slots=True)
class Shapes:
    """GEMM shapes (k, n) and heads on one rank.

    ``quantised`` are the GEMMs that fp8 models run in fp8; ``not_measured`` names models of which
    some kernels have no measurement here, with the kernels.
    """

    gemm: set[tuple[int, int]] = field(default_factory=set)
    quantised: set[tuple[int, int]] = field(default_factory=set)
    heads: set[HeadShape] = field(default_factory=set)
    not_measured: dict[str, str] = field(default_factory=dict)

    def add_model(self, spec: ModelSpec, tensor_parallel: Iterable[int]) -> None:
        for tp in tensor_parallel:
            for kernel in ForwardPass(spec, tp).kernels(
                prefills=[(0, 1)], num_decodes=1, sum_decode_context=1
            ):
                if isinstance(kernel, Gemm):
                    self.gemm.add((kernel.k, kernel.n))
                    if kernel.name not in _ALWAYS_16_BITS:
                        self.quantised.add((kernel.k, kernel.n))
                elif isinstance(kernel, DecodeAttention):
                    shape = HeadShape(kernel.num_heads, kernel.num_kv_heads, kernel.head_dim)
                    self.heads.add(shape)
        missing = ["latent attention"] if spec.mla is not None else []
        missing += ["routed experts"] if spec.moe is not None else []
        if missing:
            self.not_measured[spec.name] = ", ".join(missing)


def shapes_of_models(names: Iterable[str] | None, tensor_parallel: Iterable[int]) -> Shapes:
    """Return the shapes of the named models, or of all bundled ones, on one rank.

    A degree that does not split a bundled model is passed over; one that splits none of the
    named models is an error.
    """
    degrees = sorted(set(tensor_parallel))
    chosen = [entry.name for entry in list_models()] if names is None else list(names)
    shapes = Shapes()
    for name in chosen:
        spec = load_model(name)
        allowed = set(valid_tensor_parallel(spec, at_most=max(degrees)))
        usable = [tp for tp in degrees if tp in allowed]
        if not usable and names is not None:
            raise ConfigError(
                f"--tp must hold a degree that splits {name} ({sorted(allowed)}); got {degrees}"
            )
        shapes.add_model(spec, usable)
    return shapes


def shapes_from_text(texts: Iterable[str]) -> Shapes:
    """Return given shapes: ``32-8-128`` = heads, KV heads, head_dim; ``4096x6144`` = k x n."""
    shapes = Shapes()
    for text in texts:
        heads = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)-([1-9]\d*)", text)
        gemm = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
        if heads is not None:
            shape = HeadShape(*map(int, heads.groups()))
            if shape.num_heads % shape.num_kv_heads:
                raise ConfigError(
                    f"--shapes must have heads that are a multiple of the KV heads; got {text!r}"
                )
            shapes.heads.add(shape)
        elif gemm is not None:
            k, n = map(int, gemm.groups())
            shapes.gemm.add((k, n))
            shapes.quantised.add((k, n))
        else:
            raise ConfigError(
                "--shapes must hold heads as 32-8-128 (heads-KV heads-head_dim) or GEMMs as "
                f"4096x6144 (k x n); got {text!r}"
            )
    return shapes
