"""GPUs and models to analyse, by names that can be imported, and models of one's own.

``T4Specs()`` is the T4 of the catalog, ``MistralConfig()`` a model of the catalog; keywords
change single fields: ``T4Specs(hbm_gb_per_s=300.0)``, ``MistralConfig(num_layers=16)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from blis_sim.catalog.gpus import GpuSpec, load_gpu
from blis_sim.catalog.model_config import model_spec_from_config
from blis_sim.catalog.model_spec import ModelSpec, dtype_sizes
from blis_sim.catalog.models import load_model
from blis_sim.errors import ConfigError, unknown_name
from blis_sim.roofline.ceilings import Ceilings

_LIKE = "T4"
"""Any GPU, for what a roofline has no use for."""

AnyGpu = str | GpuSpec
"""A name of the catalog, or a specification."""


@dataclass(frozen=True, slots=True)
class NamedGpu:
    """A GPU of the catalog; calling it gives the specification.

    Attributes
    ----------
    name : str
        Name in the catalog.
    """

    name: str

    def __call__(self, **changes: Any) -> GpuSpec:
        """Return the specification, with fields of `GpuSpec` changed.

        Raises
        ------
        ConfigError
            A field is unknown; the nearest are listed.
        """
        spec = load_gpu(self.name)
        _check_fields(spec, changes)
        return replace(spec, **changes)


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model of the catalog; calling it gives the specification.

    Attributes
    ----------
    name : str
        Name in the catalog.
    """

    name: str

    def __call__(self, **changes: Any) -> ModelSpec:
        """Return the specification, with fields of `ModelSpec` changed.

        Raises
        ------
        ConfigError
            A field is unknown; the nearest are listed.
        """
        spec = load_model(self.name)
        _check_fields(spec, changes)
        return replace(spec, **changes)


def _check_fields(spec: GpuSpec | ModelSpec, changes: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(spec)]
    for name in changes:
        if name not in known:
            raise ConfigError(unknown_name(f"field of {type(spec).__name__}", name, known))


T4Specs = NamedGpu("T4")
V100Specs = NamedGpu("V100-SXM2-32")
A10Specs = NamedGpu("A10")
A40Specs = NamedGpu("A40")
A10040Specs = NamedGpu("A100-40")
A10080Specs = NamedGpu("A100-80")
L4Specs = NamedGpu("L4")
L40SSpecs = NamedGpu("L40S")
H100Specs = NamedGpu("H100")
H200Specs = NamedGpu("H200")
B200Specs = NamedGpu("B200")

MistralConfig = NamedModel("mistral-7b-instruct-v0.1")
Llama2_7BConfig = NamedModel("llama-2-7b-hf")
Llama2_13BConfig = NamedModel("llama-2-13b-hf")
Llama2_70BConfig = NamedModel("llama-2-70b-hf")
Llama3_8BConfig = NamedModel("llama-3-8b-instruct")
Llama3_70BConfig = NamedModel("llama-3-70b-instruct")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomConfig:
    """A dense transformer of one's own; Llama-2-7B where nothing is said.

    Attributes
    ----------
    name : str
    hidden_size, num_layers, num_attention_heads, intermediate_size, vocab_size : int
        As in a Hugging Face config, each >= 1.
    num_kv_heads : int or None
        None = as many as attention heads.
    head_dim : int or None
        None = ``hidden_size / num_attention_heads``.
    max_position_embeddings : int
        Longest sequence, tokens.
    dtype : str
        ``bfloat16``, ``float16`` or ``float32``.
    gated_mlp : bool
        Whether the MLP has three matrices or two.
    sliding_window : int or None
        Tokens; None = all layers attend to the whole context.
    """

    name: str = "custom"
    hidden_size: int = 4096
    num_layers: int = 32
    num_attention_heads: int = 32
    num_kv_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int = 11008
    vocab_size: int = 32000
    max_position_embeddings: int = 4096
    dtype: str = "bfloat16"
    gated_mlp: bool = True
    sliding_window: int | None = None

    def spec(self) -> ModelSpec:
        """Return the model.

        Raises
        ------
        ConfigError
            A size is below 1, sizes do not fit together, or the dtype is unknown.
        """
        sizes = {name: getattr(self, name) for name in _SIZES}
        for name, size in sizes.items():
            if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
                raise ConfigError(f"{name} must be a whole number >= 1; got {size!r}")
            if size is not None and size < 1:
                raise ConfigError(f"{name} must be a whole number >= 1; got {size}")
        heads = self.num_attention_heads
        kv_heads = heads if self.num_kv_heads is None else self.num_kv_heads
        if heads % kv_heads:
            raise ConfigError(
                f"num_kv_heads must divide num_attention_heads = {heads}; got {kv_heads}"
            )
        if self.head_dim is None and self.hidden_size % heads:
            raise ConfigError(
                f"hidden_size must be a multiple of num_attention_heads = {heads}; got "
                f"{self.hidden_size}; or give head_dim"
            )
        if self.dtype not in dtype_sizes():
            raise ConfigError(unknown_name("dtype", self.dtype, dtype_sizes()))
        return ModelSpec(
            name=self.name,
            num_layers=self.num_layers,
            hidden_size=self.hidden_size,
            num_attention_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=self.head_dim or self.hidden_size // heads,
            intermediate_size=self.intermediate_size,
            vocab_size=self.vocab_size,
            max_position_embeddings=self.max_position_embeddings,
            dtype=self.dtype,
            weight_bits=8 * dtype_sizes()[self.dtype],
            gated_mlp=self.gated_mlp,
            sliding_window=self.sliding_window,
            num_full_attention_layers=self.num_layers if self.sliding_window is None else 0,
        )


_SIZES = (
    *("hidden_size", "num_layers", "num_attention_heads", "num_kv_heads", "head_dim"),
    *("intermediate_size", "vocab_size", "max_position_embeddings", "sliding_window"),
)

AnyModel = str | ModelSpec | CustomConfig | Mapping[str, Any]
"""A name or folder, a specification, or the parsed ``config.json`` of a model."""


def gpu_of(gpu: AnyGpu) -> GpuSpec:
    """Return a specification; CatalogError for an unknown name."""
    if isinstance(gpu, str):
        return load_gpu(gpu)
    if isinstance(gpu, NamedGpu):
        raise ConfigError(f"gpu must be a specification; got the class of it: write {gpu.name!r}")
    if not isinstance(gpu, GpuSpec):
        raise ConfigError(f"gpu must be a name or a GpuSpec; got {type(gpu).__name__}")
    return gpu


def gpu_of_machine(ceilings: Ceilings) -> GpuSpec:
    """Return a measured machine as a specification: its default peak and bandwidth.

    All formats of 16 bits and more count at the default peak; memory and links are not known.
    """
    return replace(
        load_gpu(_LIKE),
        name=ceilings.machine,
        aliases=(),
        bf16_tflops_dense=ceilings.peak().tflops,
        hbm_gb_per_s=ceilings.bandwidth().gb_per_s,
        fp8_tflops_dense=None,
        memory_gb_label=None,
        memory_gib=None,
        nvlink_gb_per_s=None,
        tdp_w=None,
        num_sms=None,
        flash_attention_version=None,
        notes=f"measured; peak of {ceilings.peak().name}",
        source=ceilings.source,
    )


def model_of(model: AnyModel) -> ModelSpec:
    """Return a specification; CatalogError for an unknown name or an unusable config."""
    if isinstance(model, str):
        return load_model(model)
    if isinstance(model, CustomConfig):
        return model.spec()
    if isinstance(model, Mapping):
        return model_spec_from_config(model, str(model.get("_name_or_path") or "custom"), "model")
    if not isinstance(model, ModelSpec):
        raise ConfigError(
            "model must be a name, a ModelSpec, a CustomConfig or a mapping; got "
            f"{type(model).__name__}"
        )
    return model
