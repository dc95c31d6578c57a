"""Reading JSON traces within bounds: one document, a long array, or one object per line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blis_sim.errors import TraceError
from blis_sim.workload.base import MAX_TIME_US, MAX_TOKENS
from blis_sim.workload.trace_file import BadRows, open_data, shown

MAX_DOCUMENT_BYTES = 2**29
MAX_ITEM_BYTES = 2**26
_CHUNK_CHARS = 2**20
_MIB = 2**20
_BLANKS = " \t\r\n"


class BadValueError(ValueError):
    """A value of a JSON file is not what it must be; the text names its place."""


def json_lines(path: Path, bad_rows: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSONL file, plain or gzip, with their lines.

    Blank lines are passed over; a line that is no JSON object is a malformed row.
    """
    with open_data(path) as data:
        number = 0
        while line := data.readline(MAX_ITEM_BYTES + 1):
            number += 1
            if len(line) > MAX_ITEM_BYTES:
                raise TraceError(
                    f"{path}:{number}: line must be at most {MAX_ITEM_BYTES // _MIB} MiB long; "
                    "got more; is this one JSON object per line?"
                )
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                item = None
            if isinstance(item, dict):
                yield number, item
            else:
                text = line.decode(errors="surrogateescape").strip()
                bad_rows.add(f"row must be a JSON object; got {shown(text)}", number)


def json_document(path: Path) -> Any:
    """Return the content of a JSON file of at most 512 MiB, plain or gzip.

    Raises
    ------
    TraceError
        If it is larger, or not JSON.
    """
    with open_data(path) as data:
        content = data.read(MAX_DOCUMENT_BYTES + 1)
    if len(content) > MAX_DOCUMENT_BYTES:
        raise TraceError(
            f"{path}: JSON file must be at most {MAX_DOCUMENT_BYTES // _MIB} MiB, unpacked; got "
            "more; save it without the texts, or in parts"
        )
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise TraceError(
            f"{path}:{error.lineno}: file must be well-formed JSON; got: {error.msg} at "
            f"character {error.colno}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{path}: file must be well-formed JSON; got: {error}") from error


def json_array(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the items of a file that is one JSON array, with their positions from 0.

    One item at a time is in memory, so the file may be of any size.

    Raises
    ------
    TraceError
        If it is no array, an item is larger than 64 MiB, or it is not JSON.
    """
    decoder = json.JSONDecoder()
    with open_data(path) as data:
        text = io.TextIOWrapper(data, "utf-8-sig", errors="surrogateescape")
        buffer = text.read(_CHUNK_CHARS).lstrip(_BLANKS)
        if not buffer.startswith("["):
            raise TraceError(f"{path}: file must be a JSON array; got {shown(buffer[:80])}")
        position, index = 1, 0
        while True:
            while position < len(buffer) and buffer[position] in " \t\r\n,":
                position += 1
            if buffer[position : position + 1] == "]":
                return
            try:
                item, position = decoder.raw_decode(buffer, position)
            except (ValueError, RecursionError) as error:
                pending = len(buffer) - position
                more = text.read(max(_CHUNK_CHARS, pending))
                if not more or pending > MAX_ITEM_BYTES:
                    got = error.msg if isinstance(error, json.JSONDecodeError) else error
                    raise TraceError(
                        f"{path}: item [{index}] must be well-formed JSON; got: {got}"
                    ) from error
                buffer, position = buffer[position:] + more, 0
                continue
            yield index, item
            index += 1


def whole_number(
    value: object, place: str, minimum: int, maximum: int = MAX_TOKENS, unit: str = "tokens"
) -> int:
    """Return a JSON number that must be whole and in a range.

    Raises
    ------
    BadValueError
        If it is something else; ``place`` names it.
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and minimum <= value <= maximum:
        return value
    of_unit = f" of {unit}" if unit else ""
    raise BadValueError(
        f"{place} must be a whole number{of_unit} from {minimum} to {maximum}; "
        f"got {shown_json(value)}"
    )


def duration_us(value: object, place: str, unit: str, unit_us: float) -> int:
    """Return a JSON number >= 0 in some unit of time as whole microseconds, half to even.

    Raises
    ------
    BadValueError
        If it is something else, or more than 1e9 s; ``place`` names it.
    """
    # NaN fails the comparison, and it keeps whole numbers too large for a float away.
    if type(value) in {int, float} and 0 <= value <= MAX_TIME_US / unit_us:  # type: ignore[operator]
        return round(value * unit_us)  # type: ignore[operator]
    raise BadValueError(
        f"{place} must be a number of {unit} from 0 to {MAX_TIME_US / unit_us:.0f}; "
        f"got {shown_json(value)}"
    )


def shown_json(value: object) -> str:
    """Return a JSON value for an error message, on one line and of bounded length."""
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, str):
        return "nothing" if value is None else shown(value)
    try:
        return shown(str(value)).strip("'")
    except ValueError:  # a whole number of more digits than Python writes out
        return "a number of thousands of digits"
