"""Names: one spelling rule, exact names before abbreviations."""

from __future__ import annotations

import pytest

from blis_sim.catalog.names import NameIndex, normalize_name, short_name
from blis_sim.errors import CatalogError


def test_spelling_rule() -> None:
    """Case, blanks and underscores do not distinguish names; the organisation is cut off."""
    assert normalize_name("  RTX 4090_Ti ") == "rtx-4090-ti"
    assert short_name("Qwen/Qwen3-14B") == "Qwen3-14B"
    assert short_name("H100") == "H100"


def test_first_spelling_counts() -> None:
    """Of two names with one spelling the earlier, more exact one is meant."""
    index = NameIndex.build("hardware", [("A100", "A100-80"), ("a100", "A100-40")])
    assert index.resolve("A100") == "A100-80"
    assert index.find("A200") is None


def test_unknown_names_list_canonical_names() -> None:
    """The message offers canonical names, short ones for a short name, and the remedy."""
    index = NameIndex.build("model", [("x", "org/Model-7B"), ("y", "org/Other-70B")])
    with pytest.raises(
        CatalogError, match=r"model must be a known name; .*nearest: Model-7B.*; z"
    ):
        index.resolve("model-8b", "z")
    with pytest.raises(CatalogError, match=r"nearest: org/Model-7B"):
        index.resolve("org/model-8b")
