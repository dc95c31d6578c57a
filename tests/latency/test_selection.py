from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from blis_sim.catalog.coefficients import load_coefficients
from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.catalog.paths import data_root
from blis_sim.config.latency import LatencyModelName, LatencySettings
from blis_sim.errors import BlisError, CatalogError, ConfigError
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.blackbox import BlackboxModel
from blis_sim.latency.roofline_v1 import RooflineV1Model
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.latency.selection import Deployment, Selection, select_latency

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
HEADER = (
    "model,gpu,tp,vllm_version,alpha0_us,alpha1_us_per_in_tok,alpha2_us_per_out_tok,"
    "beta0_us,beta1_us_per_prefill_tok,beta2_us_per_decode_tok\n"
)


def make_deployment(model: str = LLAMA, gpu: str = "H100", tp: int = 1, **more: Any) -> Deployment:
    return Deployment(model_name=model, spec=load_model(model), gpu=load_gpu(gpu), tp=tp, **more)


def select(deployment: Deployment | None = None, **settings: Any) -> Selection:
    return select_latency(LatencySettings(**settings), deployment or make_deployment())


def write_table(folder: Path, *rows: str) -> Path:
    path = folder / "coefficients.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def test_given_coefficients_come_first() -> None:
    """Alpha and beta select blackbox whatever else is given or shipped."""
    selection = select(
        alpha=(1, 2, 3), beta=(4, 5, 6), hardware_config=Path("x"), model_config_folder=Path("y")
    )
    assert selection.name is LatencyModelName.BLACKBOX
    assert selection.reason == "coefficients given"
    assert selection.alternatives == ("roofline-v1",)
    assert isinstance(selection.model, BlackboxModel)
    assert (selection.model.alpha, selection.model.beta) == ((1, 2, 3), (4, 5, 6))


def test_a_coefficient_file_comes_first_too(tmp_path: Path) -> None:
    """The user's table is searched instead of the shipped one; the source names the line."""
    file = write_table(tmp_path, "other,H100,1,v1,9,9,9,9,9,9", f"{LLAMA},H100,1,v1,1,2,3,4,5,6")
    selection = select(coefficients_file=file, hardware_config=Path("x"))
    assert selection.reason == "coefficient file given"
    assert selection.source.startswith(f"{file}:3 ")
    assert isinstance(selection.model, BlackboxModel)
    assert selection.model.beta == (4, 5, 6)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hardware_config": Path("x")}, "hardware file given"),
        ({"model_config_folder": Path("y")}, "model config given"),
        (
            {"hardware_config": Path("x"), "model_config_folder": Path("y")},
            "hardware file and model config given",
        ),
    ],
)
def test_files_of_the_deployment_select_roofline(settings: dict[str, Any], reason: str) -> None:
    """On a GPU that was measured that is v2, else v1 with a warning."""
    selection = select(**settings)
    assert selection.name is LatencyModelName.ROOFLINE_V2
    assert selection.reason == reason
    assert selection.alternatives == ("blackbox", "roofline-v1")
    other = select(make_deployment(gpu="L4"), **settings)
    assert (other.name, other.reason) == (LatencyModelName.ROOFLINE_V1, reason)
    assert any("no kernel tables measured on L4" in notice for notice in other.notices)


def test_given_tables_select_v2() -> None:
    """A folder of tables answers first, and is the source."""
    selection = select(bench_data_path=data_root() / "bench_data")
    assert (selection.name, selection.reason) == (
        LatencyModelName.ROOFLINE_V2,
        "kernel tables given",
    )
    assert selection.source == "bench_data, kernels of H100"


def test_a_measured_gpu_selects_v2() -> None:
    """Its own kernels come before coefficients, and those of others."""
    selection = select()
    assert selection.name is LatencyModelName.ROOFLINE_V2
    assert selection.reason == "kernels measured on this GPU"
    assert selection.alternatives == ("blackbox", "roofline-v1")
    assert isinstance(selection.model, RooflineV2Model)
    assert selection.notices == ()


def test_another_gpu_borrows_and_says_so() -> None:
    """Without measurements and coefficients the nearest GPU's kernels answer."""
    selection = select(make_deployment(gpu="L4"))
    assert selection.name is LatencyModelName.ROOFLINE_V2
    assert selection.reason == "no measurements of this GPU; borrowed from L40S"
    assert selection.alternatives == ("roofline-v1",)
    assert any("borrowed from L40S, with the peak" in notice for notice in selection.notices)


@pytest.fixture
def no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no kernel tables at all."""

    def nothing(*_: object) -> None:
        raise CatalogError("no tables")

    monkeypatch.setattr("blis_sim.latency.kernel_tables.borrow.tables_for", nothing)


@pytest.mark.usefixtures("no_tables")
def test_a_shipped_row_selects_blackbox() -> None:
    """Without tables: a row for exactly this model, GPU and TP; the first of its key counts."""
    row = next(
        row
        for row in load_coefficients()
        if row.model == "meta-llama/llama-3.1-8b-instruct" and (row.gpu, row.tp) == ("H100", 1)
    )
    selection = select()
    assert selection.name is LatencyModelName.BLACKBOX
    assert selection.reason == "trained on this model, GPU and TP"
    assert selection.source.startswith("configs/coefficients.csv:")
    assert isinstance(selection.model, BlackboxModel)
    assert (selection.model.alpha, selection.model.beta) == (row.alpha, row.beta)
    assert selection.notices == ()


@pytest.mark.usefixtures("no_tables")
def test_everything_else_is_roofline_v1() -> None:
    """Without a row either, the calibrated roofline answers, and says that nothing else could."""
    selection = select(make_deployment("Qwen/Qwen3-14B"))
    assert selection.name is LatencyModelName.ROOFLINE_V1
    assert selection.reason == "no coefficients for Qwen/Qwen3-14B on H100, TP 1"
    assert selection.alternatives == ()
    assert selection.source == "configs/gpus/gpus.yaml"
    assert selection.notices == ()


def test_the_model_chosen_is_of_the_deployment() -> None:
    """Two GPUs share the work: a long prefill step takes about half as long."""
    batch = Batch(prefills=[PrefillChunk(0, 4096)])
    one = select(model=LatencyModelName.ROOFLINE_V1)
    two = select(make_deployment(tp=2), model=LatencyModelName.ROOFLINE_V1)
    assert isinstance(two.model, RooflineV1Model)
    assert 0.5 < two.model.step_time(batch) / one.model.step_time(batch) < 0.55


def test_uncalibrated_gpus_are_told() -> None:
    """The constants come from H100 and A100-80; with a user's file they are the user's."""
    selection = select(make_deployment(gpu="L40S"), model=LatencyModelName.ROOFLINE_V1)
    assert any("calibrated on H100 and A100-80; L40S" in n for n in selection.notices)
    assert select(model=LatencyModelName.ROOFLINE_V1).notices == ()


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "llama-3.1-8b"])
def test_models_of_one_shape_share_coefficients(name: str) -> None:
    """A base model takes the row of its tuned sibling, and a long name says so."""
    selection = select(make_deployment(name), model=LatencyModelName.BLACKBOX)
    says_so = any(f"are used for {name}: models of one shape" in n for n in selection.notices)
    assert says_so == ("/" in name)


def test_a_version_given_is_preferred(tmp_path: Path) -> None:
    """Of several rows that of the version asked for; another one is used with a notice."""
    file = write_table(
        tmp_path, f"{LLAMA},H100,1,v0.8.4,1,1,1,1,1,1", f"{LLAMA},H100,1,v0.9.0,2,2,2,2,2,2"
    )
    selection = select(make_deployment(engine_version="0.9.0"), coefficients_file=file)
    assert isinstance(selection.model, BlackboxModel)
    assert selection.model.alpha == (2, 2, 2)
    assert selection.notices == ()
    other = select(make_deployment(engine_version="0.7.0"), coefficients_file=file)
    assert isinstance(other.model, BlackboxModel)
    assert other.model.alpha == (1, 1, 1)
    assert any("no coefficients for engine 0.7.0" in notice for notice in other.notices)
    default = select(coefficients_file=file)
    assert default.notices == ()


def test_other_weights_have_no_shipped_coefficients() -> None:
    """A dtype or quantisation set by the user is not what the coefficients were trained on."""
    deployment = make_deployment(is_as_published=False)
    assert select(deployment).alternatives == ("roofline-v1",)
    with pytest.raises(ConfigError, match=r"must not be blackbox with engine\.dtype or"):
        select(deployment, model=LatencyModelName.BLACKBOX)
    given = select(deployment, model=LatencyModelName.BLACKBOX, alpha=(1, 1, 1), beta=(1, 1, 1))
    assert given.name is LatencyModelName.BLACKBOX


def test_forcing_keeps_the_deployments_files() -> None:
    """What identifies the deployment never contradicts a forced model."""
    selection = select(model=LatencyModelName.BLACKBOX, hardware_config=Path("x"))
    assert (selection.name, selection.reason) == (LatencyModelName.BLACKBOX, "forced")
    selection = select(model=LatencyModelName.ROOFLINE_V1, model_config_folder=Path("y"))
    assert (selection.name, selection.reason) == (LatencyModelName.ROOFLINE_V1, "forced")
    assert selection.alternatives == ("blackbox",)


V1 = LatencyModelName.ROOFLINE_V1
BAD: list[tuple[dict[str, Any], type[BlisError], str]] = [
    ({"alpha": (1, 1, 1)}, ConfigError, r"latency\.beta must be given together with latency\.alp"),
    ({"beta": (1, 1, 1)}, ConfigError, r"latency\.alpha must be given together with latency\.bet"),
    (
        {"alpha": (1, 1, 1), "beta": (1, 1, 1), "coefficients_file": Path("x.csv")},
        ConfigError,
        r"latency\.coefficients_file must not be set together with latency\.alpha",
    ),
    (
        {"model": V1, "alpha": (1, 1, 1), "beta": (1, 1, 1)},
        ConfigError,
        r"latency\.alpha must not be set with latency\.model roofline-v1",
    ),
    (
        {"model": V1, "coefficients_file": Path("x.csv")},
        ConfigError,
        r"latency\.coefficients_file must not be set with latency\.model roofline-v1",
    ),
    (
        {"model": LatencyModelName.ROOFLINE_V2, "bench_data_path": Path("/nowhere")},
        CatalogError,
        r"bench_data_path must be a folder of measured kernel tables; got /nowhere",
    ),
    (
        {"model": V1, "bench_data_path": Path("bench_data")},
        ConfigError,
        r"bench_data_path must not be set with latency\.model roofline-v1; got bench_data",
    ),
    ({"coefficients_file": Path("/none.csv")}, CatalogError, r"/none\.csv"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_settings_a_model_cannot_use_are_errors(
    settings: dict[str, Any], error: type[BlisError], message: str
) -> None:
    """Nothing is accepted and ignored."""
    with pytest.raises(error, match=message):
        select(**settings)


def test_missing_coefficients_name_the_nearest(tmp_path: Path) -> None:
    """Forced without a row, and with a file that lacks the key."""
    with pytest.raises(
        CatalogError,
        match=r"the shipped coefficients must have a row for .* on H100, TP 8; near.*",
    ) as caught:
        select(make_deployment(tp=8), model=LatencyModelName.BLACKBOX)
    assert "(meta-llama/llama-3.1-8b-instruct, H100, TP" in str(caught.value)
    file = write_table(tmp_path, f"{LLAMA},H100,4,v0.8.4,1,1,1,1,1,1")
    with pytest.raises(
        CatalogError,
        match=rf"coefficients\.csv must have a row for .*nearest: \({LLAMA}, H100, TP 4",
    ):
        select(coefficients_file=file)


@pytest.mark.parametrize(
    ("gpu", "tp", "words"),
    [
        ("A40", 4, r"the 4 GPUs .* PCIe alone \(NVLink bridges join 2\): .* measured on L40S"),
        ("H100-PCIe", 2, r"the 2 GPUs .* PCIe alone: .* measured on RTX-PRO-6000"),
    ],
)
def test_a_group_over_borrowed_pcie_says_so(gpu: str, tp: int, words: str) -> None:
    """Whose figures the exchange has, for it is often what decides whether TP pays."""
    selection = select(make_deployment(gpu=gpu, tp=tp), model=LatencyModelName.ROOFLINE_V2)
    assert any(re.search(words, notice) for notice in selection.notices)


@pytest.mark.parametrize(("gpu", "tp"), [("A40", 2), ("A40", 1), ("L40S", 2), ("H100", 8)])
def test_links_that_are_known_need_no_words(gpu: str, tp: int) -> None:
    """A bridge, one GPU, measurements of the GPU itself, or a switch."""
    selection = select(make_deployment(gpu=gpu, tp=tp), model=LatencyModelName.ROOFLINE_V2)
    assert not any("PCIe" in notice for notice in selection.notices)
