"""What all trace writers offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

from blis_sim.atomic import atomic_write, open_text
from blis_sim.units import US_PER_S
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.writing.survey import Survey, count_of


class TraceWriter(ABC):
    """One format that can be written; its name is that of the reader."""

    name: str
    title: str
    endings: tuple[str, ...] = ()
    """Endings of file names that select this format."""

    @abstractmethod
    def losses(self, survey: Survey) -> list[str]:
        """Return what the format cannot hold of a stream, one sentence each."""

    def check(self, survey: Survey) -> None:  # noqa: B027 (most formats hold any stream)
        """Raise ConfigError when the stream cannot be written at all."""

    def remarks(self, survey: Survey) -> list[str]:
        """Return what a user should know beside the losses."""
        return []

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the files that `write` makes, the one named by the user first."""
        return (path,)

    @abstractmethod
    def write(self, requests: Iterable[RequestSpec], survey: Survey, path: Path) -> None:
        """Write the requests, in their order, lazily; the files are whole or absent.

        Parameters
        ----------
        requests : iterable of RequestSpec
            The stream that was surveyed.
        survey : Survey
            What it uses.
        path : pathlib.Path
            The file; text is compressed where it ends in ``.gz``.

        Raises
        ------
        ConfigError
            The file system refused to write.
        """

    def all_losses(self, survey: Survey) -> list[str]:
        """Return the losses, those that every format has included, with the format's name."""
        losses = list(self.losses(survey))
        if survey.num_renumbered:
            number = count_of(survey.num_renumbered)
            losses.append(f"request_id of {number} changes: it is the place in order of arrival")
        return [f"{self.name}: {loss}" for loss in losses]


class TextWriter(TraceWriter):
    """A format that is one text file."""

    def write(self, requests: Iterable[RequestSpec], survey: Survey, path: Path) -> None:
        """Write the requests."""
        with (
            atomic_write(path) as temporary,
            open_text(temporary, compressed=is_packed(path)) as stream,
        ):
            stream.writelines(self.lines(requests, survey))

    @abstractmethod
    def lines(self, requests: Iterable[RequestSpec], survey: Survey) -> Iterator[str]:
        """Yield the lines of the file, each with its end."""


def is_packed(path: Path) -> bool:
    """Return whether the name of a file says gzip."""
    return path.name.lower().endswith(".gz")


def seconds_text(us: int) -> str:
    """Return microseconds as seconds, exactly, with six decimals."""
    whole, rest = divmod(us, US_PER_S)
    return f"{whole}.{rest:06d}"


def csv_cell(text: str) -> str:
    """Return ``text`` as one CSV field (RFC 4180)."""
    if '"' in text or "," in text:
        return '"' + text.replace('"', '""') + '"'
    return text
