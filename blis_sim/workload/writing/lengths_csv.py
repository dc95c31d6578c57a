"""CSV formats that hold arrivals and lengths alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from blis_sim.errors import ConfigError
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.writing.base import TextWriter, seconds_text
from blis_sim.workload.writing.survey import FACTS, Survey, count_of


class AzureWriter(TextWriter):
    """Azure LLM inference CSV: timestamps of seven decimals without a zone.

    Time 0 is 2000-01-01 00:00:00; readers count from the first request.
    """

    name = "azure"
    title = "Azure LLM inference CSV"

    def losses(self, survey: Survey) -> list[str]:
        """Return what is not kept: all but lengths and gaps."""
        return [*survey.not_kept(FACTS), *survey.not_kept_first()]

    def lines(self, requests: Iterable[RequestSpec], survey: Survey) -> Iterator[str]:
        """Yield the header and the rows."""
        yield "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        begin = datetime(2000, 1, 1)
        for spec in requests:
            time = begin + timedelta(microseconds=spec.arrival_us)
            # The last of the seven decimals of the original counts tenths of a microsecond.
            stamp = time.isoformat(" ", "microseconds") + "0"
            yield f"{stamp},{spec.prompt_tokens},{spec.output_tokens}\n"


class BurstGptWriter(TextWriter):
    """BurstGPT CSV, first version.

    The model is GPT-4, since ``vllm bench serve`` replays the rows of that model alone
    (``vllm/benchmarks/datasets.py``). Without output tokens a row means a failed request
    there, and such requests are left out.
    """

    name = "burstgpt"
    title = "BurstGPT CSV"

    def losses(self, survey: Survey) -> list[str]:
        """Return what is not kept: all but arrivals and lengths, and requests without answer."""
        losses = survey.not_kept(FACTS)
        if survey.num_unanswered:
            number = count_of(survey.num_unanswered)
            losses.append(f"{number} with 0 output tokens not written: they mean failures there")
        return losses

    def check(self, survey: Survey) -> None:
        """Raise when no request has an answer."""
        if survey.num_unanswered == survey.num_requests:
            raise ConfigError(
                "burstgpt: at least one request must have output tokens; got none in "
                f"{count_of(survey.num_requests)}"
            )

    def lines(self, requests: Iterable[RequestSpec], survey: Survey) -> Iterator[str]:
        """Yield the header and the rows."""
        yield "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        for spec in requests:
            prompt, output = spec.prompt_tokens, spec.output_tokens
            if output:
                time = seconds_text(spec.arrival_us)
                yield f"{time},GPT-4,{prompt},{output},{prompt + output},API log\n"
