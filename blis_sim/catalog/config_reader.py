"""Reading values of a model's config.json, with errors that name file and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blis_sim.errors import CatalogError

_TEXT_PARTS = ("text_config", "llm_config", "language_config")
_NO_ATTENTION_KEYS = (
    "hybrid_override_pattern",
    "full_attention_interval",
    "linear_attn_config",
    "attn_layer_period",
    "attn_type_list",
    "layers_block_type",
    "ssm_cfg",
)


def _class_defaults(model_type: str) -> Mapping[str, Any]:
    """Return what a published config may leave to the library's config class.

    Gemma 3's multimodal configs omit what equals the defaults of transformers'
    Gemma3TextConfig.
    """
    if model_type == "gemma3_text":
        return {
            "vocab_size": 262208,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "max_position_embeddings": 131072,
        }
    return {}


@dataclass(frozen=True, slots=True)
class ConfigReader:
    """Typed access to a config; null counts as absent.

    Attributes
    ----------
    values
        Keys of the text model, completed by those of the whole config.
    where
        ``file: `` or ``file: text_config.``, the start of every message.
    model_type
        Family of the text model; empty when not given.
    """

    values: Mapping[str, Any]
    where: str
    model_type: str

    @classmethod
    def of_text_model(cls, config: Mapping[str, Any], source: str) -> ConfigReader:
        """Return the reader of the language model in ``config``.

        Raises
        ------
        CatalogError
            When the model mixes attention with layers of another kind: its KV cache would
            be wrong.
        """
        part = next((p for p in _TEXT_PARTS if isinstance(config.get(p), Mapping)), None)
        given = dict(config) | dict(config[part] if part else {})
        given = {key: value for key, value in given.items() if value is not None}
        model_type = str(given.get("model_type", ""))
        where = f"{source}: {part}." if part else f"{source}: "
        hybrid = next((key for key in _NO_ATTENTION_KEYS if key in given), None)
        if hybrid is not None:
            raise CatalogError(
                f"{where}{hybrid} must be absent; got {type(given[hybrid]).__name__}; models "
                "with layers other than attention are not supported"
            )
        return cls({**_class_defaults(model_type), **given}, where, model_type)

    def has(self, key: str) -> bool:
        """Return whether ``key`` is there and not null."""
        return key in self.values

    def is_list(self, key: str) -> bool:
        """Return whether ``key`` is there and a list."""
        return isinstance(self.values.get(key), list)

    def error(self, key: str, constraint: str, got: object) -> CatalogError:
        """Return the error that says what ``key`` must be."""
        return CatalogError(f"{self.where}{key} must be {constraint}; got {got!r}")

    def _first(self, keys: tuple[str, ...]) -> str | None:
        return next((key for key in keys if key in self.values), None)

    def _integer(self, keys: tuple[str, ...], least: int, default: int | None) -> int:
        constraint = "a positive integer" if least else "an integer >= 0"
        key = self._first(keys)
        if key is None:
            if default is None:
                raise CatalogError(f"{self.where}{keys[-1]} must be {constraint}; it is missing")
            return default
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(key, constraint, value)
        return value

    def positive(self, *keys: str, default: int | None = None) -> int:
        """Return the first of ``keys`` that is there, an integer >= 1."""
        return self._integer(keys, 1, default)

    def non_negative(self, *keys: str, default: int | None = None) -> int:
        """Return the first of ``keys`` that is there, an integer >= 0."""
        return self._integer(keys, 0, default)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false", value)
        return value

    def text(self, *keys: str, default: str) -> str:
        """Return the first of ``keys`` that is there, a string."""
        key = self._first(keys)
        if key is None:
            return default
        value = self.values[key]
        if not isinstance(value, str):
            raise self.error(key, "text", value)
        return value

    def mapping(self, *keys: str) -> Mapping[str, Any]:
        """Return the first of ``keys`` that is there, an object; empty when absent."""
        key = self._first(keys)
        value = self.values[key] if key else {}
        if not isinstance(value, Mapping):
            raise self.error(str(key), "an object", value)
        return value

    def strings(self, key: str) -> list[str] | None:
        """Return a list of strings, or None when absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.error(key, "a list of text", value)
        return value

    def integers(self, key: str) -> list[int]:
        """Return a list of integers, empty when absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, int) for v in value):
            raise self.error(key, "a list of integers", value)
        return value
