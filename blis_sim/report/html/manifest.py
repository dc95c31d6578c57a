"""Where the numbers of a page come from, as its last part says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blis_sim.report.html.page import Document, Fact
from blis_sim.report.number_words import counted, rate, seconds, usd
from blis_sim.report.setting_words import point_words

if TYPE_CHECKING:
    from blis_sim.capacity.study import Outcome, Study

_MOST_HASHES = 500
_HASH_SHOWN = 16
_NONE = object()


def yaml_text(values: Any) -> str:
    """Return plain values as YAML."""
    import yaml

    from blis_sim.metrics.plain import to_plain

    text: str = yaml.safe_dump(to_plain(values), sort_keys=False, allow_unicode=True, width=100)
    return text.rstrip()


def common_part(scenarios: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that are the same in all scenarios."""
    if not scenarios:
        return {}
    first = scenarios[0]
    found: dict[str, Any] = {}
    for key, value in first.items():
        others = [each.get(key, _NONE) for each in scenarios[1:]]
        if all(other == value for other in others):
            found[key] = value
        elif isinstance(value, Mapping) and all(isinstance(each, Mapping) for each in others):
            inner = common_part([value, *others])
            if inner:
                found[key] = inner
    return found


def study_facts(study: Study, place: str) -> tuple[Fact, ...]:
    """Return the lines about a study in a store."""
    done = [p.outcome for p in study.points if p.outcome is not None and p.outcome.is_done]
    facts = [
        Fact("study", f"{study.kind.value} {study.number} of {place}"),
        Fact("asked", f"{_when(study.created_at)}; last run {_when(study.updated_at)}"),
        Fact("code", ", ".join(_versions(study))),
        Fact("simulated", _work(done)),
    ]
    facts += _latency(outcome.deployment for outcome in done)
    loads = list(dict.fromkeys(outcome.load for outcome in done if outcome.load))
    if loads:
        more = f" (and {len(loads) - 1} more)" if len(loads) > 1 else ""
        facts.append(Fact("load", loads[0] + more))
    seeds = sorted({outcome.seed for outcome in done if outcome.seed is not None})
    if seeds:
        facts.append(Fact("seeds", ", ".join(map(str, seeds))))
    prices = {
        str(outcome.deployment.get("gpu")): outcome.deployment["usd_per_gpu_hour"]
        for outcome in done
        if outcome.deployment.get("usd_per_gpu_hour") is not None
    }
    facts += [Fact(f"price of {gpu}", price_words(gpu, usd_)) for gpu, usd_ in prices.items()]
    return tuple(facts)


def _versions(study: Study) -> list[str]:
    versions = dict.fromkeys([study.code_version, *(p.code_version for p in study.points)])
    return [f"blis_sim {version}" for version in versions if version]


def _work(done: Sequence[Outcome]) -> str:
    requests = sum(outcome.num_requests for outcome in done)
    wall = sum(outcome.wall_s for outcome in done)
    runs, served = counted(len(done), "simulation"), counted(requests, "request")
    return f"{runs}, {served}, {seconds(wall)} of computing"


def _when(iso: str) -> str:
    return iso.replace("T", " ").partition(".")[0].removesuffix("+00:00")


def _latency(deployments: Any) -> Iterator[Fact]:
    models: dict[str, dict[str, None]] = {}
    for facts in deployments:
        name, source = facts.get("latency_model"), facts.get("latency_source")
        if name:
            models.setdefault(str(name), {})[str(source or "")] = None
    for name, sources in models.items():
        shown = "; ".join(filter(None, sources))
        yield Fact("latency model", f"{name}, data: {shown}" if shown else name)


def price_words(gpu: str, usd_per_hour: float) -> str:
    """Return a price with its sources, where it is that of the catalog."""
    from blis_sim.catalog.prices import gpu_price, load_prices

    words = f"{usd(usd_per_hour)} per GPU and hour"
    known = gpu_price(gpu, load_prices())
    if known is None or abs(known.median_usd_per_gpu_hour - usd_per_hour) > 1e-9:
        return words
    offers = "; ".join(
        f"{usd(offer.usd_per_gpu_hour)} {offer.source}, {offer.as_of}" for offer in known.offers
    )
    return f"{words}, the median of: {offers}"


def study_documents(study: Study) -> tuple[Document, ...]:
    """Return what was asked, what the scenarios share, and their hashes."""
    documents = [Document("Question", yaml_text(dict(study.asked)))] if study.asked else []
    shared = common_part([point.scenario for point in study.points])
    if shared:
        title = "Scenario" if len(study.points) == 1 else "Settings that all scenarios share"
        documents.append(Document(title, yaml_text(shared)))
    hashes = [
        f"{point.outcome.scenario_sha256[:_HASH_SHOWN]}  {point_words(point.labels)}"
        for point in study.points
        if point.outcome is not None and point.outcome.scenario_sha256
    ]
    if hashes:
        more = len(hashes) - _MOST_HASHES
        shown = hashes[:_MOST_HASHES] + [f"and {more} more"] * (more > 0)
        documents.append(Document("Hashes of the resolved scenarios (SHA-256)", "\n".join(shown)))
    return tuple(documents)


def run_facts(
    manifest: Mapping[str, Any], run_info: Mapping[str, Any], place: str
) -> tuple[Fact, ...]:
    """Return the lines about a run."""
    facts = [Fact("result", place)]
    if run_info.get("date"):
        took = seconds(run_info.get("wall_s"))
        facts.append(Fact("simulated", f"{_when(str(run_info['date']))}, in {took}"))
    if manifest.get("blis_sim_version"):
        versions = (
            f"blis_sim {manifest['blis_sim_version']}, numpy {manifest.get('numpy_version')}"
        )
        python = run_info.get("python_version")
        facts.append(Fact("code", versions + (f", Python {python}" if python else "")))
    if manifest.get("scenario_sha256"):
        facts.append(Fact("scenario hash", f"SHA-256 {manifest['scenario_sha256']}"))
    if manifest.get("seed") is not None:
        facts.append(Fact("seed", str(manifest["seed"])))
    for part in manifest.get("pools") or [manifest]:
        of = f" of pool {part['name']}" if manifest.get("pools") else ""
        facts += _part_facts(part, of)
    for gpu, price in (manifest.get("prices") or {}).items():
        facts.append(Fact(f"price of {gpu}", _price(price)))
    return tuple(facts)


def _part_facts(part: Mapping[str, Any], of: str) -> Iterator[Fact]:
    if part.get("latency_model"):
        reason = part.get("latency_model_reason", part.get("latency_reason"))
        source = part.get("latency_model_source", part.get("latency_source"))
        words = str(part["latency_model"])
        words += f" ({reason})" if reason else ""
        words += f"; data: {source}" if source else ""
        yield Fact(f"latency model{of}", words)
    if part.get("num_kv_blocks") is not None:
        source = part.get("num_kv_blocks_source", part.get("kv_blocks_source"))
        words = f"{rate(part['num_kv_blocks'])} per instance"
        yield Fact(f"KV blocks{of}", f"{words} ({source})" if source else words)


def _price(price: Mapping[str, Any]) -> str:
    sources = "; ".join(map(str, price.get("sources") or ()))
    words = f"{usd(price.get('usd_per_gpu_hour'))} per GPU and hour"
    if not sources:
        return words
    return f"{words}, the median of {counted(price.get('num_offers', 1), 'offer')}: {sources}"


def run_documents(manifest: Mapping[str, Any]) -> tuple[Document, ...]:
    """Return the scenario and the engine settings in force."""
    documents = []
    if manifest.get("scenario"):
        documents.append(Document("Scenario", yaml_text(manifest["scenario"])))
    for part in manifest.get("pools") or [manifest]:
        of = f" of pool {part['name']}" if manifest.get("pools") else ""
        if part.get("engine_settings"):
            title = f"Engine settings in force{of}"
            documents.append(Document(title, yaml_text(part["engine_settings"])))
    return tuple(documents)
