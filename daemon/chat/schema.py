"""How does a client's JSON schema become one that a grammar can follow?

llguidance (GUIDE 7.4) refuses a schema for a keyword that it lacks, and libraries write many of
these. The rewritten schema says the same wherever a grammar can, and allows more elsewhere. An
object that lists properties allows no others unless the schema says so, as with Ollama and
llama.cpp.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from .schema_document import SchemaDocument
from .schema_ending import can_end, endless
from .schema_keywords import (
    COUNTS,
    FOLLOWED,
    FORMATS,
    MEANINGFUL,
    PASSED_OVER,
    TYPES,
    Schema,
    check_keywords,
    invalid_format,
    types_of,
)
from .schema_patterns import word_pattern

NULL: Final = {"type": "null"}
ENDLESS: Final = "the schema refers to itself without an end, so that no answer can follow it"
IMPOSSIBLE: Final = "the schema allows no answer"
# What a rewrite may leave out beside keywords: all but one of what describes the same value.
INTERSECTIONS: Final = "keywords beside $ref, allOf or anyOf"
APPLIED: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf"})  # they describe the same value
MAX_MERGED: Final = 2000  # properties of one schema that are copied where objects are merged
# Keywords of a part of an object that can be merged with other parts.
MERGEABLE: Final = frozenset({"type", "properties", "required", "allOf", "$ref", *PASSED_OVER})


@dataclass(frozen=True, slots=True)
class PreparedSchema:
    """A schema that a grammar can follow, and what of the client's it cannot."""

    schema: dict[str, Any]
    passed_over: tuple[str, ...]  # keywords, such as "not" or "format: path"


def accept_any(_pattern: str) -> bool:
    """Accept every pattern."""
    return True


def prepare_schema(
    schema: dict[str, Any],
    accepts_pattern: Callable[[str], bool] = accept_any,
    leave_out: Iterable[str] = (),
) -> PreparedSchema:
    """Rewrite a schema for a grammar.

    `accepts_pattern` tells whether a grammar can follow a regular expression, `leave_out` names
    further keywords that it cannot. Raises InvalidFormat for what is no JSON
    schema, for a `$ref` to nowhere, and if no finite answer is possible.
    """
    rewriter = _SchemaRewriter(schema, accepts_pattern, frozenset(leave_out))
    return PreparedSchema(rewriter.whole(), tuple(rewriter.passed_over))


# Names of properties that the surroundings of a schema allow beside its own. None for a part of an
# intersection (`allOf`): the whole is closed, not its parts.
_Outer = tuple[str, ...] | None


class _SchemaRewriter:
    """Rewrites one schema and the definitions that it needs."""

    def __init__(
        self,
        root: dict[str, Any],
        accepts_pattern: Callable[[str], bool],
        leave_out: frozenset[str],
    ) -> None:
        self._root = root
        self._document = SchemaDocument(root)
        self._accepts_pattern = accepts_pattern
        self._leave_out = leave_out
        self._names: dict[tuple[int, bool], str] = {}  # by target of a $ref, and whether closed
        self._waiting: deque[tuple[str, dict[str, Any], _Outer]] = deque()
        self._merging: list[set[int]] = []  # parts of the merged objects around
        self._num_merged = 0
        self.passed_over: dict[str, None] = {}  # an ordered set

    def whole(self) -> dict[str, Any]:
        """The rewritten root with its definitions."""
        root = self._rewrite(self._root, ())
        definitions: dict[str, Schema] = {}
        while self._waiting:
            name, target, outer = self._waiting.popleft()
            definitions[name] = self._rewrite(target, outer)
        without_end = endless(definitions)
        if isinstance(root, bool):
            if not root:
                raise invalid_format(IMPOSSIBLE)
            return {}
        if not can_end(root, ()):
            raise invalid_format(IMPOSSIBLE)
        if not can_end(root, without_end):
            raise invalid_format(ENDLESS)
        if definitions:
            root["$defs"] = {**definitions, **dict.fromkeys(sorted(without_end), False)}
        return root

    def _rewrite(self, schema: Schema, outer: _Outer) -> Schema:
        if isinstance(schema, bool):
            return schema
        check_keywords(schema)
        if schema.get("not") in (True, {}):
            return False
        if _meaning(schema) == {"allOf"} and len(schema["allOf"]) == 1:
            return self._rewrite(schema["allOf"][0], outer)
        if INTERSECTIONS in self._leave_out and _meaning(schema) & {
            "$ref",
            "allOf",
            "anyOf",
            "oneOf",
        }:
            schema = self._one_of_many(schema)
        self._note(schema)
        is_closed = outer is not None and self._closes(schema, outer)
        merged = self._merge(schema) if is_closed else schema
        out = self._values(merged)
        self._array(merged, out)
        self._object(merged, out, outer if is_closed else None)
        if merged is not schema:
            self._merging.pop()
            return out
        self._alternatives(schema, out, outer)
        self._reference(schema, out, is_open=is_closed or outer is None)
        self._intersection(schema, out)
        if schema.get("nullable") is True:  # OpenAPI 3.0
            return {"anyOf": [out, NULL]}
        return out

    def _note(self, schema: dict[str, Any]) -> None:
        """Note the keywords that a grammar cannot follow."""
        for keyword in PASSED_OVER:
            if schema.get(keyword, False) not in (False, {}, True, []):
                self.passed_over[keyword] = None
        if schema.get("uniqueItems") is True:
            self.passed_over["uniqueItems"] = None

    def _merge(self, schema: dict[str, Any]) -> dict[str, Any]:
        """An object whose parts (`allOf`, `$ref`) list different properties, as a single part."""
        parts = list(self._parts(schema, conditions=False))
        ids = set(map(id, parts))
        if len(parts) == 1 or any(_meaning(part) - MERGEABLE for part in parts):
            return schema
        if self._num_merged >= MAX_MERGED or any(ids & around for around in self._merging):
            return schema
        properties: dict[str, Any] = {}
        required: dict[str, None] = {}
        for part in parts:
            self._note(part)
            for name, described in part.get("properties", {}).items():
                if properties.setdefault(name, described) is not described:
                    return schema
            required |= dict.fromkeys(part.get("required", []))
        for name in self._property_names(self._parts(schema)):
            properties.setdefault(name, True)
        self._merging.append(ids)
        self._num_merged += len(properties)
        return {"type": "object", "properties": properties, "required": [*required]}

    def _one_of_many(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The most telling of the parts that describe the same value."""
        for keywords in (("$ref",), ("properties", "required", "type"), ("anyOf",), ("oneOf",)):
            if keywords[0] in schema:
                kept = {keyword: schema[keyword] for keyword in keywords if keyword in schema}
                break
        else:
            parts = [part for part in schema["allOf"] if isinstance(part, dict)]
            best = max(parts, key=lambda part: len(_meaning(part) - set(PASSED_OVER)), default={})
            return self._one_of_many(best) if "allOf" in best else best
        if _meaning(schema) - kept.keys():
            self.passed_over[INTERSECTIONS] = None
        self._document.place(kept, schema)
        return kept

    # ---- values

    def _values(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The keywords that hold no schemas."""
        kept: dict[str, Any] = {key: schema[key] for key in FOLLOWED if key in schema}
        types = types_of(schema)
        kept.pop("type", None)
        if len(types) < len(TYPES):
            kept["type"] = types[0] if len(types) == 1 else list(types)
        if "divisibleBy" in schema:  # draft 3
            kept["multipleOf"] = schema["divisibleBy"]
        for keyword in sorted(self._leave_out & kept.keys()):
            self._drop(kept, keyword, keyword)
        _read_flags(kept)
        if "format" in kept and kept["format"] not in FORMATS:
            self._drop(kept, "format", f"format: {kept['format'][:40]}")
        if "pattern" in kept:
            readable = self._read_pattern(kept.pop("pattern"))
            kept |= {} if readable is None else {"pattern": readable}
        return kept

    def _read_pattern(self, pattern: str) -> str | None:
        """A pattern that the grammar can follow; None if there is none."""
        for wording in word_pattern(pattern):
            if self._accepts_pattern(wording.text):
                if wording.is_weaker:
                    self.passed_over[f"pattern: {pattern[:100]}"] = None
                return wording.text
        self.passed_over[f"pattern: {pattern[:100]}"] = None
        return None

    def _drop(self, kept: dict[str, Any], keyword: str, note: str) -> None:
        del kept[keyword]
        self.passed_over[note] = None

    # ---- arrays

    def _array(self, schema: dict[str, Any], out: dict[str, Any]) -> None:
        """A tuple has all of its items and no others unless the schema says so, as in llama.cpp."""
        items, first = schema.get("items"), schema.get("prefixItems")
        if isinstance(items, list):  # up to draft 2019-09
            first, items = items, schema.get("additionalItems")
        if items is None and schema.get("unevaluatedItems") is False and first:
            items = None if _meaning(schema) & APPLIED else False
        if first:
            out["prefixItems"] = [self._rewrite(item, ()) for item in first]
            if items is None and not {"minItems", "maxItems"} & schema.keys():
                out["items"], out["minItems"] = False, len(first)
        if items is not None:
            out["items"] = self._rewrite(items, ())

    # ---- objects

    def _object(self, schema: dict[str, Any], out: dict[str, Any], outer: _Outer) -> None:
        """`outer`: the further properties of an object that is closed; None: it is not."""
        own = schema.get("properties", {})
        properties = {name: self._rewrite(part, ()) for name, part in own.items()}
        if outer is not None:
            for name in (*self._property_names(self._parts(schema)), *outer):
                properties.setdefault(name, True)
            out["additionalProperties"] = False
        elif "additionalProperties" in schema:
            out["additionalProperties"] = self._rewrite(schema["additionalProperties"], ())
        if properties or outer is not None:
            out["properties"] = properties
            out.setdefault("type", "object") if own and "$ref" not in schema else None
        self._patterns(schema, out)
        self._keys(schema, out)
        self._required(own, out)

    def _required(self, own: dict[str, Any], out: dict[str, Any]) -> None:
        if isinstance(out.get("required"), bool):  # draft 3; it belongs to the object around
            del out["required"]
        flagged = [name for name, part in own.items() if _has_flag(part, "required")]
        if flagged:
            out["required"] = list(dict.fromkeys([*out.get("required", []), *flagged]))
        optional = out.get("properties", {}).keys() - set(out.get("required", []))
        for keyword in ("minProperties", "maxProperties"):
            if optional and out.get(keyword, 0) > 1:
                self._drop(out, keyword, keyword)

    def _patterns(self, schema: dict[str, Any], out: dict[str, Any]) -> None:
        given = schema.get("patternProperties", {})
        readable = {pattern: self._read_pattern(pattern) for pattern in given}
        if None in readable.values() or (given and "patternProperties" in self._leave_out):
            self.passed_over["patternProperties"] = None
            out.pop("additionalProperties", None)
        elif given:
            out["patternProperties"] = {
                str(readable[pattern]): self._rewrite(part, ()) for pattern, part in given.items()
            }

    def _keys(self, schema: dict[str, Any], out: dict[str, Any]) -> None:
        """A map whose keys are listed, or follow a pattern, has a form that a grammar follows."""
        keys = schema.get("propertyNames")
        if not isinstance(keys, dict) or keys in ({}, {"type": "string"}):
            return
        value = out.get("additionalProperties", True)
        is_map = not {"properties", "patternProperties"} & out.keys()
        if is_map and isinstance(keys.get("enum"), list) and keys["enum"]:
            names = [key for key in keys["enum"] if isinstance(key, str)]
            out["properties"], out["additionalProperties"] = dict.fromkeys(names, value), False
        elif is_map and isinstance(keys.get("pattern"), str):
            read = self._read_pattern(keys["pattern"])
            if read:
                out["patternProperties"], out["additionalProperties"] = {read: value}, False
        else:
            self.passed_over["propertyNames"] = None

    def _closes(self, schema: dict[str, Any], outer: tuple[str, ...]) -> bool:
        """Whether this schema is the place that says which properties an object has.

        With alternatives each of them is, and a bare `$ref` leaves it to what it names.
        """
        if _unions(schema) or (_meaning(schema) == {"$ref"} and not outer):
            return False
        parts = list(self._parts(schema))
        if any(_says_more(part) for part in parts):
            return False
        if not all("object" in types_of(part) for part in parts):
            return False
        return bool(outer) or any("properties" in part for part in parts)

    def _parts(
        self, schema: dict[str, Any], *, unions: bool = True, conditions: bool = True
    ) -> Iterator[dict[str, Any]]:
        """The schema and all that describe the same value.

        `unions`: also its own alternatives; `conditions`: also what applies at times.
        """
        seen: set[int] = set()
        stack: list[Schema] = [schema]
        while stack:
            part = stack.pop()
            if isinstance(part, bool) or id(part) in seen:
                continue
            seen.add(id(part))
            check_keywords(part)
            yield part
            inside: list[Schema] = []
            if "$ref" in part:
                inside.append(self._document.resolve(part["$ref"], part))
            inside += part.get("allOf", [])
            if conditions:
                inside += [part[key] for key in ("if", "then", "else") if key in part]
                inside += [each for each in _dependent(part) if isinstance(each, dict)]
            if unions or part is not schema:
                inside += [branch for union in _unions(part) for branch in union]
            stack += reversed(inside)

    def _property_names(self, parts: Iterable[dict[str, Any]]) -> tuple[str, ...]:
        """The properties that these mention, in their order."""
        names: dict[str, None] = {}
        for part in parts:
            names |= dict.fromkeys(part.get("properties", {}))
            required = part.get("required", [])
            names |= dict.fromkeys(required if isinstance(required, list) else [])
            listed = [each for each in _dependent(part) if isinstance(each, list)]
            names |= dict.fromkeys(name for each in listed for name in each)
        return tuple(names)

    # ---- what describes the same value

    def _alternatives(self, schema: dict[str, Any], out: dict[str, Any], outer: _Outer) -> None:
        """`anyOf`, and `oneOf` as if it were that: each alternative is closed on its own."""
        unions = _unions(schema)
        if not unions:
            return
        if len(schema.get("oneOf", [])) > 1 and not _have_types_apart(schema["oneOf"]):
            self.passed_over["oneOf"] = None
        first, *others = unions
        if outer is not None and any(map(_says_more, self._parts(schema, unions=False))):
            outer = None
        if outer is not None:
            around = self._property_names(self._parts(schema, unions=False))
            further = [part for union in others for each in union for part in self._deep(each)]
            outer = tuple(dict.fromkeys([*outer, *around, *self._property_names(further)]))
        out["anyOf"] = [self._rewrite(branch, outer) for branch in first]
        for union in others:
            part = {"anyOf": [self._rewrite(branch, None) for branch in union]}
            out.setdefault("allOf", []).append(part)

    def _deep(self, schema: Schema) -> Iterator[dict[str, Any]]:
        return iter(()) if isinstance(schema, bool) else self._parts(schema)

    def _reference(self, schema: dict[str, Any], out: dict[str, Any], *, is_open: bool) -> None:
        if "$ref" not in schema:
            return
        target = self._document.resolve(schema["$ref"], schema)
        if isinstance(target, bool):
            out.setdefault("allOf", []).append(target)
            return
        key = (id(target), is_open)
        if key not in self._names:
            self._names[key] = f"d{len(self._names)}"
            self._waiting.append((self._names[key], target, None if is_open else ()))
        out["$ref"] = f"#/$defs/{self._names[key]}"

    def _intersection(self, schema: dict[str, Any], out: dict[str, Any]) -> None:
        parts = [self._rewrite(part, None) for part in schema.get("allOf", [])]
        if parts:
            out["allOf"] = [*out.get("allOf", []), *parts]


def _meaning(schema: dict[str, Any]) -> frozenset[str]:
    """The keywords that limit an answer."""
    return MEANINGFUL & schema.keys()


def _unions(schema: dict[str, Any]) -> list[list[Schema]]:
    return [schema[key] for key in ("anyOf", "oneOf") if schema.get(key)]


def _dependent(schema: dict[str, Any]) -> Iterator[object]:
    """Schemas and lists of names that apply if a property is there."""
    for keyword in ("dependentSchemas", "dependentRequired", "dependencies"):
        given = schema.get(keyword)
        yield from given.values() if isinstance(given, dict) else ()


def _says_more(schema: dict[str, Any]) -> bool:
    """Whether it says itself what becomes of the properties that it does not list."""
    if "additionalProperties" in schema or schema.get("patternProperties"):
        return True
    return schema.get("unevaluatedProperties", False) is not False


def _has_flag(schema: object, keyword: str) -> bool:
    return isinstance(schema, dict) and schema.get(keyword) is True


def _have_types_apart(branches: list[Schema]) -> bool:
    """Whether no value has the types of two of them, so that `oneOf` is `anyOf`."""
    types = [
        set(types_of(branch)) if isinstance(branch, dict) else set(TYPES) for branch in branches
    ]
    return sum(map(len, types)) == len(set().union(*types))


def _read_flags(kept: dict[str, Any]) -> None:
    """Draft 4 has flags beside the limits of numbers; JSON may write whole numbers as 2.0."""
    for flag, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(kept.get(flag), bool) and kept.pop(flag) and limit in kept:
            kept[flag] = kept.pop(limit)
    for keyword in COUNTS & kept.keys():
        kept[keyword] = int(kept[keyword])
