"""The version of the installed package."""

from __future__ import annotations


def package_version() -> str:
    """Return the version of the installed distribution, ``unknown`` when it is not installed."""
    from importlib import metadata

    try:
        return metadata.version("blis-sim")
    except metadata.PackageNotFoundError:
        return "unknown"
