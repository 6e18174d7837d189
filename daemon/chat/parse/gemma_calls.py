"""How the tool calls of Gemma models are read, and repaired (CONTRACT 8.7)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from ..conversation import Tool, ToolCall
from ..tool_definition import mapping, name_of, schema_of
from .values import json_object

CALL = re.compile(r"\s*call:\s*([^\s{]+)\s*(\{.*)", re.DOTALL)
JSON_STRING = r'"(?:\\.|[^"\\])*"'
BARE_KEY = r"(?P<before>[{,]\s*)(?P<key>[\w.$-]+)(?=\s*:)"
BRACKETS = {"{": "}", "[": "]"}
# Characters of a value in single quotes, which may hold apostrophes: keeps the search linear.
MAX_SINGLE_QUOTED = 2_000
# The first characters of a value that is JSON or quoted, and so no raw text.
NOT_RAW = r"[\s\"'{\[\d\-tfn]"


class GemmaCallReader:
    """Reads calls in the notation that puts one token around strings and leaves keys bare."""

    def __init__(self, quote: str, tools: Sequence[Tool]) -> None:
        """`quote`: the text of the token. `tools`: their schemas guide the repairs."""
        self._quote = quote
        self._properties = {name_of(tool): _string_properties(tool) for tool in tools}
        q = re.escape(quote)
        self._string = rf"{q}.*?(?:{q}|\Z)"  # to the end if it is not closed
        self._unquoted = rf"(?:(?!{q}).)"  # one character
        single = rf":\s*'(?P<text>{self._unquoted}{{0,{MAX_SINGLE_QUOTED}}}?)'(?:{q})?"
        self._single = re.compile(rf"{self._string}|{single}(?=\s*(?:[,}}\]]|\Z))", re.DOTALL)
        self._token = re.compile(rf"{q}(?P<text>.*?){q}|{JSON_STRING}|{BARE_KEY}", re.DOTALL)
        self._bracket = re.compile(rf"{self._string}|{JSON_STRING}|[{{}}\[\]]", re.DOTALL)

    def read(self, text: str) -> ToolCall | None:
        """The call that stands between the markers; None if it cannot be read or repaired."""
        found = CALL.fullmatch(text)
        if not found:
            return None
        name, raw = found.groups()
        for wording in self._wordings(raw.rstrip(), self._properties.get(name, {})):
            arguments = json_object(self._token.sub(self._json, wording))
            if arguments is not None:
                return ToolCall(name, arguments)
        return None

    def _wordings(self, raw: str, properties: Mapping[str, bool]) -> Iterator[str]:
        """The arguments as they are, then with one repair after the other."""
        yield raw
        quoted = self._close_string(self._single.sub(self._requote, raw))
        if quoted != raw:
            yield self._close_brackets(quoted)
        if any(properties.values()):
            yield self._close_brackets(self._quote_raw(quoted, properties))

    def _json(self, found: re.Match[str]) -> str:
        """A string or a bare key, as JSON has it."""
        if (text := found["text"]) is not None:
            return json.dumps(text, ensure_ascii=False)
        return f'{found["before"]}"{found["key"]}"' if found["key"] else found[0]

    def _requote(self, found: re.Match[str]) -> str:
        text = found["text"]
        return found[0] if text is None else f":{self._quote}{text}{self._quote}"

    def _close_string(self, raw: str) -> str:
        """With a last string closed in front of the brackets that follow it."""
        if raw.count(self._quote) % 2 == 0:
            return raw
        closing = self._missing_brackets(raw[: raw.rindex(self._quote)])
        present = next(n for n in range(len(closing), -1, -1) if raw.endswith(closing[:n]))
        end = len(raw) - present
        return f"{raw[:end]}{self._quote}{raw[end:]}"

    def _close_brackets(self, raw: str) -> str:
        return raw + self._missing_brackets(raw)

    def _missing_brackets(self, raw: str) -> str:
        missing: list[str] = []
        for found in self._bracket.finditer(raw):
            if bracket := BRACKETS.get(found[0]):
                missing.append(bracket)
            elif missing and found[0] == missing[-1]:
                missing.pop()
        return "".join(reversed(missing))

    def _quote_raw(self, raw: str, properties: Mapping[str, bool]) -> str:
        """With quotes around raw values where the schema says that there is a string."""
        known = "|".join(map(re.escape, properties))
        strings = "|".join(re.escape(key) for key, is_string in properties.items() if is_string)
        value = re.compile(
            rf"{self._string}|{JSON_STRING}"
            rf"|(?P<key>[{{,]\s*(?:{strings})\s*:\s*)(?!{NOT_RAW}|{re.escape(self._quote)})"
            rf"(?P<text>{self._unquoted}+?)(?=,\s*(?:{known})\s*:|\}}?\s*\Z)",
            re.DOTALL,
        )
        return value.sub(self._quote_value, raw)

    def _quote_value(self, found: re.Match[str]) -> str:
        if not found["key"]:
            return found[0]
        return f"{found['key']}{self._quote}{found['text'].rstrip()}{self._quote}"


def _string_properties(tool: Tool) -> dict[str, bool]:
    """For each argument of a tool, whether it is a string."""
    properties = mapping(schema_of(tool).get("properties"))
    return {key: _is_string(value) for key, value in properties.items()}


def _is_string(schema: object) -> bool:
    kind = mapping(schema).get("type")
    return kind == "string" or (isinstance(kind, list) and "string" in kind)
