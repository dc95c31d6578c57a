"""Reading YAML strictly: where each value stands is kept, and repeated keys are errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blis_sim.config.tree import KeyPath, dotted
from blis_sim.errors import ConfigError

_MAX_BYTES = 16 * 1024**2
_KEY_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A YAML mapping and where its keys stand.

    Attributes
    ----------
    values : dict
        Plain values.
    places : dict
        Path of keys -> ``file:line:column`` of the key, or of the item of a list.
    """

    values: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)


def read_yaml(path: Path, *, what: str = "scenario", number_keys: bool = False) -> YamlDocument:
    """Read a file that must hold one YAML mapping.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        How to call its content in messages.
    number_keys : bool
        Whether keys may be numbers, as in files of other programs.

    Raises
    ------
    ConfigError
        The file cannot be read, is not YAML (with line and column), is empty, holds anything
        but a mapping, or repeats a key.
    """
    import yaml

    text = _read_text(path, what)
    try:
        return _parse(text, path, what, (*_KEY_TAGS, *_NUMBER_TAGS) if number_keys else _KEY_TAGS)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_error(path, error)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} must be valid YAML; got: {reason}") from None


def check_keys(text: str, path: Path) -> None:
    """Check that no mapping of a YAML text, whatever it holds, has a key twice.

    Raises
    ------
    ConfigError
        One has.
    yaml.YAMLError
        It is not YAML.
    """
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), path, {}, set(), (*_KEY_TAGS, *_NUMBER_TAGS))
    finally:
        loader.dispose()


def _parse(text: str, path: Path, what: str, key_tags: tuple[str, ...]) -> YamlDocument:
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{path}: {what} must hold at least one setting; got an empty file")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:1:1: {what} must be a mapping; got {_kind(node)}")
        places: dict[KeyPath, str] = {}
        _walk(node, (), path, places, set(), key_tags)
        return YamlDocument(loader.construct_document(node), places)
    finally:
        loader.dispose()


def _read_text(path: Path, what: str) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{what} must be a file; got the folder {path}")
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise ConfigError(
                f"{path} must be a {what} of at most {_MAX_BYTES // 1024**2} MiB; got "
                f"{path.stat().st_size} bytes"
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} must be UTF-8 text; got other bytes") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{what} must be a readable file; got {path}: {reason}") from None


def _syntax_error(path: Path, error: Any) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    return f"{place} must be valid YAML; got: {error.problem or error.context}"


def _kind(node: Any) -> str:
    import yaml

    return "a list" if isinstance(node, yaml.SequenceNode) else "one value"


def _walk(
    node: Any,
    parents: KeyPath,
    path: Path,
    places: dict[KeyPath, str],
    visited: set[int],
    key_tags: tuple[str, ...],
) -> None:
    """Note where the keys of a mapping stand; raise where one is there twice.

    An alias is looked at once, so that aliases of aliases cost nothing.
    """
    import yaml

    if id(node) in visited:
        return
    visited.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            keys = (*parents, str(number))
            places[keys] = f"{path}:{item.start_mark.line + 1}:{item.start_mark.column + 1}"
            _walk(item, keys, path, places, visited, key_tags)
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        mark = key_node.start_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}"
        if key_node.tag not in key_tags:
            got = _kind(key_node) if not isinstance(key_node, yaml.ScalarNode) else key_node.value
            raise ConfigError(f"{place}: a key must be the name of a setting; got {got}")
        keys = (*parents, str(key_node.value))
        if keys in places:
            raise ConfigError(
                f"{place}: {dotted(keys)} must be there once; got it twice, first at "
                f"{places[keys]}"
            )
        places[keys] = place
        _walk(value_node, keys, path, places, visited, key_tags)
