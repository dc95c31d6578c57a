"""The deployment whose latency model is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.catalog.coefficients import plain_version
from blis_sim.config.cluster import ClusterSettings
from blis_sim.config.latency import LatencyModelName
from blis_sim.config.workload import WorkloadSettings
from blis_sim.engine.resolve import resolve
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario
    from blis_sim.engine.resolved import Resolved

FITTED = (LatencyModelName.BLACKBOX, LatencyModelName.ROOFLINE_V2)


@dataclass(frozen=True, slots=True)
class Target:
    """One engine instance.

    Attributes
    ----------
    resolved : Resolved
        With the latency model to fit, its own coefficients of no matter.
    engine_version : str or None
        Only when the user gave one.
    """

    resolved: Resolved
    engine_version: str | None

    @property
    def latency_model(self) -> LatencyModelName:
        """Which latency model is fitted."""
        return self.resolved.latency.name

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.resolved.spec.name

    @property
    def gpu(self) -> str:
        """Name of the GPU."""
        return self.resolved.gpu.name

    @property
    def tp(self) -> int:
        """GPUs of the instance."""
        return self.resolved.deployed.settings.tensor_parallel_size


def target_of(scenario: Scenario) -> Target:
    """Return the deployment of a scenario; its load is not read.

    Parameters
    ----------
    scenario : Scenario
        ``latency.model`` is what is fitted; ``auto`` means blackbox.

    Raises
    ------
    ConfigError
        It is a cluster, or a latency model that has no coefficients; or settings contradict
        each other.
    CatalogError
        The model, the GPU or its kernels are unknown.
    """
    if scenario.cluster != ClusterSettings() or (scenario.engine.data_parallel_size or 1) > 1:
        raise ConfigError(
            "cluster must not be set where a latency model is fitted: it is that of one engine "
            "instance; give the deployment of one instance, and its requests alone"
        )
    latency = scenario.latency
    name = latency.model
    if name is LatencyModelName.AUTO:
        name = LatencyModelName.BLACKBOX
    if name not in FITTED:
        raise ConfigError(
            f"latency.model must be {' or '.join(FITTED)} to be fitted; got {name.value}"
        )
    given: dict[str, object] = {"model": name, "coefficients_file": None}
    given |= {"alpha": None, "beta": None}
    if name is LatencyModelName.BLACKBOX:
        given |= {"alpha": (0.0, 0.0, 0.0), "beta": (1.0, 0.0, 0.0)}
    plain = scenario.model_copy(
        update={
            "latency": latency.model_copy(update=given),
            "workload": WorkloadSettings(num_requests=1),
            "horizon_s": None,
        }
    )
    is_given = "version" in scenario.engine.model_fields_set
    version = plain_version(scenario.engine.version) if is_given else None
    return Target(resolve(plain), version)
