"""Which latency model answers, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.catalog.coefficients import (
    find_coefficients,
    is_same_model,
    load_coefficients,
    nearest_coefficient_keys,
)
from blis_sim.catalog.locate import shown_path
from blis_sim.catalog.models import find_model
from blis_sim.config.latency import LatencyModelName, LatencySettings
from blis_sim.errors import CatalogError, ConfigError
from blis_sim.latency.blackbox import BlackboxModel
from blis_sim.latency.roofline_v1 import RooflineV1Model, V1Shape
from blis_sim.transformer.kernels import TruncationMethod

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blis_sim.catalog.coefficients import Coefficients
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.catalog.model_spec import ModelSpec
    from blis_sim.latency.base import LatencyModel
    from blis_sim.latency.kernel_tables.borrow import TablesFor
    from blis_sim.latency.kernel_tables.tables import KernelTables

_CALIBRATED = ("H100", "A100-80")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a latency model is chosen for.

    Attributes
    ----------
    model_name : str
        As the user wrote it; the name in ``spec`` is the catalog's.
    spec : ModelSpec
        The model.
    gpu : GpuSpec
        The GPU.
    tp : int
        GPUs per instance, >= 1.
    engine_version : str or None
        Only when the user gave one.
    is_as_published : bool
        Whether the weights are the checkpoint's own: false when the user set another dtype
        or quantisation, for which nothing was trained.
    kv_cache_dtype : str
        As in the engine's settings.
    truncation : TruncationMethod
        How the engine applies the model's default top-k and top-p.
    hides_host : bool
        Whether what the host does between steps is hidden behind a running step.
    """

    model_name: str
    spec: ModelSpec
    gpu: GpuSpec
    tp: int
    engine_version: str | None = None
    is_as_published: bool = True
    kv_cache_dtype: str = "auto"
    truncation: TruncationMethod = TruncationMethod.NONE
    hides_host: bool = True

    @property
    def key(self) -> str:
        """Model, GPU and TP in words."""
        return f"{self.spec.name} on {self.gpu.name}, TP {self.tp}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The latency model chosen.

    Attributes
    ----------
    model : LatencyModel
        It answers.
    name : LatencyModelName
        Never ``auto``.
    reason : str
        Why it was chosen.
    source : str
        Where its data come from.
    alternatives : tuple of str
        What else could have answered.
    notices : tuple of str
        What the user should know.
    """

    model: LatencyModel
    name: LatencyModelName
    reason: str
    source: str
    alternatives: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def select_latency(settings: LatencySettings, deployment: Deployment) -> Selection:
    """Choose the latency model.

    Parameters
    ----------
    settings : LatencySettings
        What the user wrote. With ``auto`` the first of these that applies: coefficients or a
        coefficient file given -> blackbox, or roofline-v2 where the file holds a host model;
        hardware file, model folder or kernel tables given -> roofline-v2 where there are
        tables measured on this GPU, else roofline-v1; shipped tables measured on this GPU ->
        roofline-v2; a shipped coefficient row for this model, GPU and TP -> blackbox; tables
        of another GPU -> roofline-v2; roofline-v1.
    deployment : Deployment
        Model, GPU, TP and engine version.

    Raises
    ------
    ConfigError
        Settings contradict each other, or the chosen model cannot use one of them.
    CatalogError
        There are no coefficients where they are needed; the message lists the nearest keys.
    """
    _check_given(settings)
    match settings.model:
        case LatencyModelName.ROOFLINE_V2:
            return _roofline_v2(settings, deployment, _tables(settings, deployment), "forced")
        case LatencyModelName.BLACKBOX:
            return _blackbox(settings, deployment, "forced")
        case LatencyModelName.ROOFLINE_V1:
            return _roofline_v1(deployment, "forced")
    if settings.alpha is not None:
        return _blackbox(settings, deployment, "coefficients given")
    if settings.coefficients_file is not None:
        return _from_file(settings, deployment)
    given = [
        what
        for what, value in (
            ("hardware file", settings.hardware_config),
            ("model config", settings.model_config_folder),
            ("kernel tables", settings.bench_data_path),
        )
        if value is not None
    ]
    tables = _tables_or_none(settings, deployment)
    if given:
        because = f"{' and '.join(given)} given"
        if tables is not None and tables.borrowed_from is None:
            return _roofline_v2(settings, deployment, tables, because)
        warning = (
            f"there are no kernel tables measured on {deployment.gpu.name}: step times are "
            "roofline-v1's, with one calibrated efficiency per phase"
        )
        return _roofline_v1(deployment, because, warning)
    if tables is not None and tables.borrowed_from is None:
        return _roofline_v2(settings, deployment, tables, "kernels measured on this GPU")
    if deployment.is_as_published:
        row = _find_row(deployment, None)
        if row is not None:
            return _trained(row, deployment, "trained on this model, GPU and TP")
    if tables is not None:
        return _roofline_v2(settings, deployment, tables, "no measurements of this GPU")
    return _roofline_v1(deployment, f"no coefficients for {deployment.key}")


def _tables(settings: LatencySettings, deployment: Deployment) -> TablesFor:
    from blis_sim.latency.kernel_tables.borrow import tables_for

    return tables_for(deployment.gpu, settings.bench_data_path)


def _tables_or_none(settings: LatencySettings, deployment: Deployment) -> TablesFor | None:
    """Return the kernel tables that serve the GPU; None where there are none at all."""
    try:
        return _tables(settings, deployment)
    except CatalogError:
        if settings.bench_data_path is not None:
            raise
        return None


def _roofline_v2(
    settings: LatencySettings, deployment: Deployment, found: TablesFor, reason: str
) -> Selection:
    from blis_sim.latency.roofline_v2.host import shipped_host
    from blis_sim.latency.roofline_v2.host_file import read_host
    from blis_sim.latency.roofline_v2.model import RooflineV2Model
    from blis_sim.transformer.forward_pass import ForwardPass

    gpu, notices = deployment.gpu, list(found.tables.notices)
    path = settings.bench_data_path
    where = "bench_data" if path is None else str(shown_path(path))
    forward = ForwardPass(
        deployment.spec,
        deployment.tp,
        kv_cache_dtype=deployment.kv_cache_dtype,
        has_fp8=gpu.fp8_tflops_dense is not None,
        truncation=deployment.truncation,
    )
    if found.borrowed_from is not None:
        reason += f"; borrowed from {found.borrowed_from}"
        notices.append(
            f"no kernels were measured on {gpu.name}: their efficiencies are borrowed from "
            f"{found.borrowed_from}, with the peak and bandwidth of {gpu.name}"
        )
    notices += _about_links(gpu, deployment.tp, found.tables)
    has_coefficients = deployment.is_as_published and _find_row(deployment, None) is not None
    others = (LatencyModelName.BLACKBOX.value,) if has_coefficients else ()
    source, file = f"{where}, kernels of {found.tables.measured_on('gemm')}", None
    if deployment.truncation is not TruncationMethod.NONE:
        source += f"; sampling with {_sampling(deployment.spec)}"
    if _has_host_file(settings):
        file = settings.coefficients_file
        source += f"; host model of {file}"
    return Selection(
        model=RooflineV2Model(
            forward,
            found.tables,
            shipped_host() if file is None else read_host(file),
            hides_host=deployment.hides_host,
        ),
        name=LatencyModelName.ROOFLINE_V2,
        reason=reason,
        source=source,
        alternatives=(*others, LatencyModelName.ROOFLINE_V1.value),
        notices=tuple(notices),
    )


def _about_links(gpu: GpuSpec, tp: int, tables: KernelTables) -> Iterator[str]:
    """Yield that a group crosses PCIe by another GPU's figures: that is often what decides."""
    if tp == 1 or gpu.direct_gb_per_s(tp) is not None:
        return
    lender = tables.allreduce_fit(tp).match.source.gpu.name
    if lender == gpu.name:
        return
    why = "" if gpu.nvlink_gpus is None else f" (NVLink bridges join {gpu.nvlink_gpus})"
    yield (
        f"the {tp} GPUs of an instance are taken to be joined by PCIe alone{why}: what they "
        f"exchange takes as long as measured on {lender}"
    )


def _sampling(spec: ModelSpec) -> str:
    """Return the top-k and top-p a model is sampled with by default, in words."""
    words = []
    if spec.default_top_k:
        words.append(f"top-k {spec.default_top_k}")
    if spec.default_top_p < 1:
        words.append(f"top-p {spec.default_top_p:g}")
    return " and ".join(words)


def _from_file(settings: LatencySettings, deployment: Deployment) -> Selection:
    if _has_host_file(settings):
        tables = _tables(settings, deployment)
        return _roofline_v2(settings, deployment, tables, "host model given")
    return _blackbox(settings, deployment, "coefficient file given")


def _has_host_file(settings: LatencySettings) -> bool:
    """Return whether the coefficient file holds a host model of roofline-v2."""
    from blis_sim.latency.roofline_v2.host_file import is_host_file

    return settings.coefficients_file is not None and is_host_file(settings.coefficients_file)


def _check_given(settings: LatencySettings) -> None:
    """Raise where a setting was given that no model, or not the forced one, can use."""
    uses_tables = settings.model in {LatencyModelName.AUTO, LatencyModelName.ROOFLINE_V2}
    if settings.bench_data_path is not None and not uses_tables:
        raise ConfigError(
            f"latency.bench_data_path must not be set with latency.model {settings.model.value}; "
            f"got {shown_path(settings.bench_data_path)}; only roofline-v2 uses kernel tables"
        )
    if (settings.alpha is None) != (settings.beta is None):
        missing, given = ("beta", "alpha") if settings.beta is None else ("alpha", "beta")
        raise ConfigError(
            f"latency.{missing} must be given together with latency.{given}; got only {given}"
        )
    coefficients = {
        name: getattr(settings, name)
        for name in ("alpha", "beta", "coefficients_file")
        if getattr(settings, name) is not None
    }
    if settings.alpha is not None and settings.coefficients_file is not None:
        raise ConfigError(
            "latency.coefficients_file must not be set together with latency.alpha and "
            f"latency.beta; got {settings.coefficients_file}; leave one of them out"
        )
    if _has_host_file(settings):
        if not uses_tables:
            raise ConfigError(
                "latency.coefficients_file must not be a host model with latency.model "
                f"{settings.model.value}; got {settings.coefficients_file}; only roofline-v2 has "
                "one; leave one of them out, or give a .csv file for blackbox"
            )
        return
    is_for_blackbox = settings.model in {LatencyModelName.AUTO, LatencyModelName.BLACKBOX}
    for name in () if is_for_blackbox else coefficients:
        raise ConfigError(
            f"latency.{name} must not be set with latency.model {settings.model.value}; only "
            "blackbox has coefficients; leave one of them out"
        )


def _blackbox(settings: LatencySettings, deployment: Deployment, reason: str) -> Selection:
    if settings.alpha is not None and settings.beta is not None:
        return Selection(
            model=BlackboxModel(settings.alpha, settings.beta),
            name=LatencyModelName.BLACKBOX,
            reason=reason,
            source="alpha and beta given by the user",
            alternatives=(LatencyModelName.ROOFLINE_V1.value,),
        )
    file = settings.coefficients_file
    if file is None and not deployment.is_as_published:
        raise ConfigError(
            "latency.model must not be blackbox with engine.dtype or engine.quantization set: "
            f"the shipped coefficients are for {deployment.spec.name} as published; give your "
            "own coefficients or use roofline-v1"
        )
    row = _find_row(deployment, file)
    if row is None:
        gpu, tp = deployment.gpu.name, deployment.tp
        nearest = nearest_coefficient_keys(deployment.spec.name, gpu, tp, file=file)
        raise CatalogError(
            f"{'the shipped coefficients' if file is None else file} must have a row for "
            f"{deployment.key}; nearest: {', '.join(nearest) or 'none'}; or give alpha and beta"
        )
    return _trained(row, deployment, reason)


def _trained(row: Coefficients, deployment: Deployment, reason: str) -> Selection:
    return Selection(
        model=BlackboxModel(row.alpha, row.beta),
        name=LatencyModelName.BLACKBOX,
        reason=reason,
        source=f"{shown_path(row.source)} {row.key}",
        alternatives=(LatencyModelName.ROOFLINE_V1.value,),
        notices=_about_row(row, deployment),
    )


def _find_row(deployment: Deployment, file: Path | None) -> Coefficients | None:
    """Return the coefficients of a deployment, under any name of a model of its shape."""
    models = {row.model for row in load_coefficients(file)}
    for name in _names(deployment):
        if any(is_same_model(name, model) for model in models):
            row = find_coefficients(
                name,
                deployment.gpu.name,
                deployment.tp,
                version=deployment.engine_version,
                file=file,
            )
            if row is not None:
                return row
    return None


def _names(deployment: Deployment) -> list[str]:
    """Return the names coefficients may stand under, the model's own first.

    Names that share an entry of the catalog are models of one shape (a base model and its
    tuned sibling): their steps take equally long.
    """
    names = [deployment.spec.name, deployment.model_name]
    try:
        entry = find_model(deployment.spec.name)
    except CatalogError:
        return list(dict.fromkeys(names))
    return list(dict.fromkeys([*names, entry.name, *(a for a in entry.aliases if "/" in a)]))


def _about_row(row: Coefficients, deployment: Deployment) -> tuple[str, ...]:
    notices = []
    if not is_same_model(row.model, deployment.spec.name):
        notices.append(
            f"coefficients of {row.model} are used for {deployment.spec.name}: models of one shape"
        )
    if deployment.engine_version is not None and not row.is_exact_version:
        notices.append(
            f"no coefficients for engine {deployment.engine_version}: those of {row.key} are used"
        )
    return tuple(notices)


def _roofline_v1(deployment: Deployment, reason: str, *notices: str) -> Selection:
    gpu = deployment.gpu
    is_shipped = shown_path(gpu.source) != gpu.source
    if is_shipped and gpu.name not in _CALIBRATED:
        notices = (
            *notices,
            f"roofline-v1 is calibrated on {' and '.join(_CALIBRATED)}; {gpu.name} has the same "
            "efficiencies with its own peak and bandwidth",
        )
    has_coefficients = deployment.is_as_published and _find_row(deployment, None) is not None
    return Selection(
        model=RooflineV1Model(V1Shape.from_spec(deployment.spec), gpu.roofline_v1, deployment.tp),
        name=LatencyModelName.ROOFLINE_V1,
        reason=reason,
        source=shown_path(gpu.source),
        alternatives=(LatencyModelName.BLACKBOX.value,) if has_coefficients else (),
        notices=notices,
    )
