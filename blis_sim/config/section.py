"""The base of all parts of a scenario."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator


class Section(BaseModel):
    """Base of all parts: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    @classmethod
    def from_short(cls, value: Any) -> Any:
        """Return the settings that a short form such as a number or a name stands for.

        Anything else is returned as it is. Raises ValueError for a malformed short form.
        """
        return value

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return cls.from_short(value)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_value_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``true`` where pydantic would read it as 1."""
        if isinstance(value, bool):
            annotation = cls.model_fields[str(info.field_name)].annotation
            if bool not in (annotation, *typing.get_args(annotation)):
                raise ValueError("must be another kind of value than true or false")
        return value

    def is_given(self, name: str) -> bool:
        """Return whether the user gave a setting; none does not count."""
        return name in self.model_fields_set and getattr(self, name) is not None
