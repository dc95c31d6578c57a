"""Names of models and GPUs: one spelling rule and one lookup for both catalogs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from blis_sim.errors import CatalogError, unknown_name


def normalize_name(name: str) -> str:
    """Return ``name`` as it is compared: lower case, blanks and underscores as hyphens."""
    return re.sub(r"[\s_]+", "-", name.strip()).casefold()


def short_name(name: str) -> str:
    """Return the part of ``name`` after the last slash (``Qwen3-14B`` of ``Qwen/Qwen3-14B``)."""
    return name.strip().rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class NameIndex:
    """Spellings of names and the canonical name each stands for.

    Attributes
    ----------
    what
        What the names denote, for messages: ``model``, ``hardware``.
    canonical
        Canonical name of each normalized spelling.
    """

    what: str
    canonical: Mapping[str, str]

    @classmethod
    def build(cls, what: str, spellings: Iterable[tuple[str, str]]) -> NameIndex:
        """Return the index of ``(spelling, canonical name)`` pairs.

        Of two pairs with the same spelling the first counts, so give exact names before
        abbreviations.
        """
        canonical: dict[str, str] = {}
        for spelling, name in spellings:
            canonical.setdefault(normalize_name(spelling), name)
        return cls(what=what, canonical=canonical)

    def find(self, name: str) -> str | None:
        """Return the canonical name ``name`` stands for, or None."""
        return self.canonical.get(normalize_name(name))

    def resolve(self, name: str, remedy: str = "") -> str:
        """Return the canonical name ``name`` stands for.

        Parameters
        ----------
        name
            Any known spelling; case, underscores and blanks do not matter.
        remedy
            What else the user may do, added to the message.

        Raises
        ------
        CatalogError
            When the name is unknown; the message lists the nearest canonical names.
        """
        found = self.find(name)
        if found is not None:
            return found
        known = dict.fromkeys(self.canonical.values())
        # A short name is compared with short names, or the organisation would decide.
        candidates = known if "/" in name else dict.fromkeys(short_name(k) for k in known)
        message = unknown_name(self.what, name, candidates)
        raise CatalogError(f"{message}; {remedy}" if remedy else message)
