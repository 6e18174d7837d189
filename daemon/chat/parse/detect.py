"""Which output format does a Jinja chat template imply, by the markers in it?"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detected:
    """What a template says of the output of its model."""

    parser: str  # a name in chat.parse.registry; "": the output is content
    think_open: str  # the tags around a thought; "": none, or the parser has its own
    think_close: str
    thinks: bool  # CONTRACT 8.3
    calls: bool  # CONTRACT 8.3


@dataclass(frozen=True, slots=True)
class _Sign:
    """A template that has one text of each group is for this parser."""

    parser: str
    groups: tuple[tuple[str, ...], ...]
    thinking: str = ""  # the parser for a model that also thinks; "": the same one
    native_thinking: str = ""  # a text that shows that the model thinks in a way of its own


# The first sign that fits counts, so a format comes before those whose markers it contains.
_SIGNS = (
    _Sign("gemma4", (("<|tool_call>", "<|channel>"),), native_thinking="<|channel>"),
    _Sign("harmony", (("<|channel|>",), ("<|message|>",)), native_thinking="<|channel|>"),
    _Sign("functiongemma", (("<start_function_call>",),)),
    _Sign("kimi-k2", (("<|tool_calls_section_begin|>", "<|im_middle|>"),)),
    _Sign("deepseek3", (("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),)),
    _Sign("cohere", (("<|START_ACTION|>", "<|START_THINKING|>"),)),
    _Sign("ministral", (("[TOOL_CALLS]",), ("[ARGS]",))),
    _Sign("mistral", (("[TOOL_CALLS]",),)),
    _Sign("lfm2", (("<|tool_call_start|>", "<|tool_list_start|>"),), thinking="lfm2-thinking"),
    _Sign("olmo3", (("<function_calls>",),), thinking="olmo3-think"),
    _Sign("glm-4.7", (("<tool_call>",), ("<arg_key>",))),
    _Sign("qwen3-coder", (("<tool_call>",), ("<function=",)), thinking="qwen3.5"),
    _Sign("granite", (("<|start_of_role|>",), ("<|tool_call|>", "<tool_call>"))),
    _Sign("phi-4", (("<|tool_call|>", "<|tool|>"),)),
    _Sign("nemotron", (("<TOOLCALL>",),)),
    _Sign("hermes", (("<tool_call>",),), thinking="qwen3-thinking"),
    _Sign("llama3", (("<|python_tag|>", "<|start_header_id|>"),)),
    _Sign("command-r", (("Action:",), ("tool_name",))),
)
_WITHOUT_CALLS = ("gemma4", "harmony", "cohere")  # formats that a model without tools also has
_THINK_TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
_SPLITS_AT_CLOSE = re.compile(r"""split\(\s*(['"])</think>\1""")


def detect(jinja: str) -> Detected:
    """The parser of a template's output, and what it can do. It never fails."""
    calls = "tools" in jinja or "tool_call" in jinja
    tags = next((tags for tags in _THINK_TAGS if all(tag in jinja for tag in tags)), ("", ""))
    if not tags[0] and _SPLITS_AT_CLOSE.search(jinja):
        tags = _THINK_TAGS[0]
    sign = next((sign for sign in _SIGNS if _fits(sign, jinja, calls)), None)
    if sign is None:
        parser = "json" if calls else "thinking" if tags[0] else ""
        return Detected(parser, *tags, thinks=bool(tags[0]), calls=calls)
    thinks = bool(tags[0]) or bool(sign.native_thinking and sign.native_thinking in jinja)
    parser = sign.thinking if thinks and sign.thinking else sign.parser
    return Detected(parser, *tags, thinks=thinks, calls=calls)


def _fits(sign: _Sign, jinja: str, calls: bool) -> bool:
    if not calls and sign.parser not in _WITHOUT_CALLS:
        return False
    return all(any(text in jinja for text in group) for group in sign.groups)
