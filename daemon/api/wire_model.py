"""What is an object in the JSON of a request, and how many items may its fields have?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

JsonObject = dict[str, object]

MAX_VALUES = 1 << 19  # of a body: the tokens of a long context
INTEGERS = range(-(1 << 63), 1 << 64)  # of 64 bits, with a sign or without
NOT_INTEGERS = frozenset({"keep_alive", "temperature", "top_p", "min_p"})  # any number
MAX_ITEMS: Mapping[str, int] = {
    "messages": 1 << 12,
    "input": 1 << 13,
    "tools": 1 << 10,
    "stop": 1 << 8,
    "stop_sequences": 1 << 8,
    "options": 1 << 8,
    "parameters": 1 << 8,
    "logit_bias": 1 << 12,
    "images": 1 << 8,
    "files": 1 << 12,
    "draft_files": 1 << 12,
    "adapters": 1 << 8,
    "license": 1 << 8,
}
"""Items that a field may have, where its JSON alone does not say what they cost."""


def _check_size(name: str, value: object) -> None:
    """Raises ValueError for a field with too many items, or an integer beyond 64 bits."""
    if isinstance(value, list | dict):
        limit = MAX_ITEMS.get(name, MAX_VALUES)
        if len(value) > limit:
            raise ValueError(f"{name} has {len(value):,} items; at most {limit:,} are read")
    elif type(value) is int and value not in INTEGERS and name not in NOT_INTEGERS:
        raise ValueError(f"{name} must be an integer of 64 bits")


def _fail_fast(schema: object) -> None:
    """Let every list in a schema of pydantic end with its first error: each one takes time."""
    if isinstance(schema, list):
        for item in schema:
            _fail_fast(item)
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        for value in schema.values():
            _fail_fast(value)


class WireModel(BaseModel):
    """A JSON object: keys match in any case, null means "not given", unknown keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: object) -> object:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        fields = {str(key).lower(): value for key, value in data.items() if value is not None}
        for name, value in fields.items():
            _check_size(name, value)
        return fields

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of pydantic, whose lists end with their first error."""
        schema = handler(source)
        _fail_fast(schema)
        return schema
