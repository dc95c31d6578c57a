"""Read a page as a program would: what is loaded, what is shown."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

_HIDDEN = {"script", "style"}
_VOID = {"meta", "link", "br", "img", "input"}


@dataclass
class Read:
    """What stands in a page.

    Attributes
    ----------
    loads : list of str
        Addresses in attributes that make a browser load or follow something.
    scripts : list of str
        Texts of the scripts.
    text : str
        What is shown, blanks put together.
    tables : list of lists of lists of str
        Rows of cells, the header first.
    ids : set of str
    """

    loads: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    text: str = ""
    tables: list[list[list[str]]] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def charts(self) -> dict[str, Any]:
        """The drawings, by chart and view."""
        found = [text for text in self.scripts if text.lstrip().startswith("{")]
        charts: dict[str, Any] = json.loads(found[0]) if found else {}
        return charts


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.read = Read()
        self._open: list[str] = []
        self._named: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.read.loads += [
            values[name] or "" for name in ("src", "href", "action", "data") if name in values
        ]
        if tag == "script":
            self.read.scripts.append("")
        if tag == "table":
            self.read.tables.append([])
        if tag == "tr":
            self.read.tables[-1].append([])
        if tag in {"td", "th"}:
            self.read.tables[-1][-1].append("")
        if tag not in _VOID:
            self._open.append(tag)
            self._named.append(values.get("id"))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1] == tag, f"{tag} closes {self._open[-1]}"
        self._open.pop()
        self._named.pop()

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.read.scripts[-1] += data
        if _HIDDEN & set(self._open):
            return
        self.read.text += f" {data}"
        for name in self._named:
            if name:
                self.read.ids[name] = self.read.ids.get(name, "") + data
        if {"td", "th"} & set(self._open):
            self.read.tables[-1][-1][-1] += data


def read_page(html: str) -> Read:
    """Return what stands in a page; AssertionError where its elements do not nest."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert parser._open == []
    read = parser.read
    read.text = re.sub(r"\s+", " ", read.text)
    read.tables = [
        [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in table]
        for table in read.tables
    ]
    return read
