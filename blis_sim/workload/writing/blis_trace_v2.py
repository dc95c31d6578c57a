"""TraceV2 of the BLIS simulator: a YAML header and a CSV file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from blis_sim.atomic import atomic_write, open_text
from blis_sim.errors import ConfigError
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.writing.base import TraceWriter, csv_cell, is_packed
from blis_sim.workload.writing.survey import Survey, count_of

_NOT_KEPT = ("max_output_tokens", "abort_us", "prompt_id", "block_hashes")
_HEADER_ENDINGS = (".yaml", ".yml")
_HEADER = "trace_version: 2\ntime_unit: microseconds\nmode: generated\nwarm_up_requests: 0\n"
_PRIORITY = "vllm_priority"
_COLUMNS = (
    "request_id,client_id,tenant_id,slo_class,session_id,round_index,prefix_group,prefix_length,"
    "streaming,input_tokens,output_tokens,text_tokens,image_tokens,audio_tokens,video_tokens,"
    "reason_ratio,model,deadline_us,server_input_tokens,arrival_time_us,send_time_us,"
    "first_chunk_time_us,last_chunk_time_us,num_chunks,status,error_message,finish_reason"
)


class BlisTraceV2Writer(TraceWriter):
    """BLIS TraceV2: ``NAME.yaml`` and ``NAME.csv``, as ``sim/workload/tracev2.go`` has them.

    ``input_tokens`` leaves the shared prefix out; ``deadline_us`` is a point in time, 0 = none;
    nothing is measured.
    """

    name = "tracev2"
    title = "BLIS TraceV2"
    endings = _HEADER_ENDINGS

    def losses(self, survey: Survey) -> list[str]:
        """Return what is not kept: limits, disconnects and shared content without a group."""
        losses = [*survey.not_kept(_NOT_KEPT), *survey.not_kept_labels()]
        if survey.num_below_zero:
            number = count_of(survey.num_below_zero)
            losses.append(f"priority of {number} below 0 becomes 0, the most urgent there")
        return losses

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the file that was named and the other one of the pair.

        Raises
        ------
        ConfigError
            The name ends in neither ``.yaml`` nor ``.csv``.
        """
        name = path.name.lower()
        if name.endswith(_HEADER_ENDINGS):
            return path, path.with_suffix(".csv")
        if name.endswith(".csv"):
            return path, path.with_suffix(".yaml")
        if name.endswith(".csv.gz"):
            return path, path.with_suffix("").with_suffix(".yaml")
        raise ConfigError(
            f"tracev2: the file must end in .yaml, .csv or .csv.gz; got {path}; the other one of "
            "the pair is written beside it"
        )

    def write(self, requests: Iterable[RequestSpec], survey: Survey, path: Path) -> None:
        """Write both files."""
        data, header = self.files(path)
        if data.name.lower().endswith(_HEADER_ENDINGS):
            data, header = header, data
        with atomic_write(header) as header_file, atomic_write(data) as data_file:
            header_file.write_text(_HEADER, encoding="utf-8")
            with open_text(data_file, compressed=is_packed(data)) as stream:
                stream.writelines(_lines(requests, survey))


def _lines(requests: Iterable[RequestSpec], survey: Survey) -> Iterator[str]:
    has_priority = survey.used["priority"] > survey.num_below_zero
    columns = _COLUMNS
    if has_priority:
        columns = columns.replace("slo_class,", f"slo_class,{_PRIORITY},")
    yield columns + "\n"
    for index, spec in enumerate(requests):
        slo_class = _cell(spec.slo_class)
        if has_priority:
            slo_class += f",{max(spec.priority, 0)}"
        prefix = spec.prefix_tokens if spec.prefix_group is not None else 0
        group = _cell(spec.prefix_group if prefix else None)
        sent = spec.arrival_us
        deadline = 0 if spec.timeout_us is None else sent + spec.timeout_us
        yield (
            f"{index},,{_cell(spec.tenant)},{slo_class},{_cell(spec.session_id)},{spec.round},"
            f"{group},{prefix},false,{spec.prompt_tokens - prefix},{spec.output_tokens},0,0,0,0,0,"
            f",{deadline},0,{sent},{sent},0,0,0,ok,,\n"
        )


def _cell(label: str | None) -> str:
    return "" if label is None else csv_cell(label.strip())
