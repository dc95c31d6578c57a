"""Write docs/accuracy.md, the page on accuracy, from the output of ``blis validate``.

    make accuracy SERVING_RUNS=runs.csv                     # measure and write: all in one
    python scripts/accuracy_report.py --from build/accuracy # from what was measured
    python scripts/accuracy_report.py                       # the page anew from docs/accuracy.json
    python scripts/accuracy_report.py --check               # exit 1 if it would be another

The folder of --from has shipped.json (``blis validate --json``), silicon_<engine>.json (``blis
validate --silicon --sample all --engine <engine> --json``) and, where a table that may not be
shipped was compared, runs.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from accuracy.condense import condensed
from accuracy.page import page
from accuracy.words import ENGINES

from blis_sim.errors import BlisError, CatalogError

DOCS = Path(__file__).resolve().parent.parent / "docs"
DATA, PAGE = "accuracy.json", "accuracy.md"


def read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogError(
            f"{path} must be a JSON file; got: {error}; run make accuracy"
        ) from None
    if not isinstance(document, dict):
        raise CatalogError(f"{path} must hold a JSON object; got {type(document).__name__}")
    return document


def measured(folder: Path) -> dict[str, Any]:
    """Return the condensed document of a folder of outputs."""
    runs = folder / "runs.json"
    silicon = {engine: folder / f"silicon_{engine}.json" for engine in ENGINES}
    return condensed(
        read(folder / "shipped.json"),
        read(runs) if runs.is_file() else None,
        {engine: read(path) for engine, path in silicon.items() if path.is_file()},
    )


def text_of(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="folder", type=Path, help="outputs of blis validate")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the page lies")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    data, written = options.docs / DATA, options.docs / PAGE
    try:
        document = read(data) if options.folder is None else measured(options.folder)
        text = page(document)
        if options.check:
            is_same = written.is_file() and written.read_text(encoding="utf-8") == text
            print(f"{written} is {'as' if is_same else 'not as'} {data} says")
            return 0 if is_same else 1
        data.write_text(text_of(document), encoding="utf-8")
        written.write_text(text, encoding="utf-8")
    except BlisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyError as error:
        print(f"error: {error} is missing; measure again with make accuracy", file=sys.stderr)
        return 2
    print(f"{written} and {data} are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
