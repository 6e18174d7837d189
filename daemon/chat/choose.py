"""How is a model talked to, and what can it do by its templates (CONTRACT 8.1, 8.3)?"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from .format import GO, JINJA, ChatFormat, UnreadableTemplate
from .parse.detect import detect
from .parse.registry import FAMILIES, GENERIC

if TYPE_CHECKING:
    from .render.go_template import GoTemplate

TOOLS, INSERT, THINKING = "tools", "insert", "thinking"
CAPABILITIES = (TOOLS, INSERT, THINKING)  # in the order of an answer to /api/show
GPT_OSS = ("gptoss", "gpt-oss")  # families
HARMONY = "harmony"  # their renderer and their parser
HARMONY_TOKENS = ("<|start|>", "<|end|>")
TOOL_ROLE = re.compile(r"""["'](tool|tool_response|ipython)["']""")
GEMMA4, GEMMA4_SMALL, GEMMA4_LARGE = "gemma4", "gemma4-small", "gemma4-large"
SMALL_NAMES, LARGE_NAMES = ("e2b", "e4b"), ("12b", "26b", "31b")  # of Gemma 4 (CONTRACT 8.6)
LARGE_PARAMETERS = 12_000_000_000  # from which on Gemma 4 counts as large (CONTRACT 8.6)


@dataclass(frozen=True, slots=True)
class ChatModel:
    """The facts of a model that decide."""

    name: str = ""
    family: str = ""  # of the config, else the architecture
    parameter_count: int = 0
    renderer: str = ""  # of the config
    parser: str = ""  # of the config
    go_template: str | None = None  # its TEMPLATE
    jinja: str | None = None  # of the GGUF file


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """What follows from them."""

    format: ChatFormat
    capabilities: tuple[str, ...] = ()  # some of CAPABILITIES
    warnings: tuple[str, ...] = ()  # what cannot be used, one sentence each


def choose(
    model: ChatModel, *, renderers: Container[str] = (), prefers_go: bool | None = None
) -> ChatChoice:
    """The format of a model. `renderers`: the built-in ones; `prefers_go`: OLLAMA_GO_TEMPLATE."""
    go, warnings = _read(model)
    by_go = _of_go(go, model.go_template or "") if go else None
    by_jinja = _of_jinja(model.jinja)
    if go and by_go and _selects_go(go, by_go, model.jinja, by_jinja, prefers_go):
        chosen = by_go
    else:
        chosen = by_jinja
    if model.renderer or model.parser:
        chosen = _configured(model, by_go or chosen, renderers)
    elif by_go and model.family in GPT_OSS and _has(model.go_template, HARMONY_TOKENS):
        chosen = _harmony(by_go, renderers)
    unreadable = go is None and model.go_template is not None and not model.jinja
    if unreadable and not chosen.format.renderer:  # a chat is refused, and says why
        format_ = ChatFormat(template=model.go_template or "", language=GO)
        chosen = ChatChoice(format_, chosen.capabilities, chosen.warnings)
    thinking = (THINKING,) if model.family in GPT_OSS else ()
    capabilities = _ordered({*chosen.capabilities, *thinking})
    return ChatChoice(chosen.format, capabilities, (*warnings, *chosen.warnings))


def format_of(go_template: str) -> ChatFormat:
    """The format of a Go template that a request brings. Raises UnreadableTemplate."""
    from .render.go_template import GoTemplate  # gotpl takes a while, and few models need it

    return _of_go(GoTemplate(go_template), go_template).format


def _read(model: ChatModel) -> tuple[GoTemplate | None, tuple[str, ...]]:
    if model.go_template is None:
        return None, ()
    from .render.go_template import PROBE_BUDGET, GoTemplate

    try:
        return GoTemplate(model.go_template, budget=PROBE_BUDGET), ()
    except UnreadableTemplate as error:
        instead = (
            "the chat template of the GGUF file is used" if model.jinja else "chats are refused"
        )
        return None, (f"TEMPLATE cannot be read, so that {instead}: {error}",)


def _of_go(go: GoTemplate, source: str) -> ChatChoice:
    facts = go.facts
    can = {
        TOOLS: "Tools" in facts.names,
        INSERT: "Suffix" in facts.names,
        THINKING: bool(facts.think_open),
    }
    format_ = ChatFormat(
        template=source,
        language=GO,
        parser=GENERIC if can[TOOLS] or can[THINKING] else "",
        think_open=facts.think_open,
        think_close=facts.think_close,
        call_tag=facts.call_tag if can[TOOLS] else "",
    )
    return ChatChoice(format_, _ordered({name for name in can if can[name]}))


def _of_jinja(jinja: str | None) -> ChatChoice:
    if not jinja:
        return ChatChoice(ChatFormat())
    found = detect(jinja)
    instead = GENERIC if found.calls else THINKING if found.thinks else ""
    format_ = ChatFormat(
        template=jinja,
        parser=found.parser if found.parser in FAMILIES else instead,
        think_open=found.think_open,
        think_close=found.think_close,
    )
    can = {TOOLS: found.calls, THINKING: found.thinks}
    return ChatChoice(format_, _ordered({name for name in can if can[name]}))


def _selects_go(
    go: GoTemplate,
    by_go: ChatChoice,
    jinja: str | None,
    by_jinja: ChatChoice,
    prefers_go: bool | None,
) -> bool:
    """Whether the Go template goes before the Jinja template (CONTRACT 8.1)."""
    if not jinja or prefers_go is not None:
        return not jinja or bool(prefers_go)
    go_can, jinja_can = ({*c.capabilities} & {TOOLS, THINKING} for c in (by_go, by_jinja))
    jinja_round_trips = "tool_calls" in jinja and bool(TOOL_ROLE.search(jinja))
    if len(jinja_can) > len(go_can) and (jinja_round_trips or not go.round_trips):
        return False
    both_call = TOOLS in go_can & jinja_can
    return not (both_call and jinja_round_trips and not go.round_trips)


def _configured(model: ChatModel, base: ChatChoice, renderers: Container[str]) -> ChatChoice:
    """The renderer and the parser of the config; `base` serves what they leave open."""
    renderer, family = _variant(model), FAMILIES.get(model.parser)
    unknown = (
        (renderer not in renderers, renderer, "RENDERER {} is unknown: chats are refused"),
        (family is None, model.parser, "PARSER {} is unknown, and not used"),
    )
    warnings = tuple(text.format(name) for is_unknown, name, text in unknown if is_unknown and name)
    capabilities = set(base.capabilities if not (renderer and family) else ())
    if renderer:
        capabilities.discard(INSERT)
    if family:
        capabilities |= {TOOLS} if family.calls else set()
        capabilities |= {THINKING} if family.thinks else set()
    format_ = base.format
    if renderer:
        format_ = msgspec.structs.replace(format_, renderer=renderer, template="", language=JINJA)
    if family:
        format_ = msgspec.structs.replace(format_, parser=model.parser)
    return ChatChoice(format_, tuple(capabilities), warnings)


def _harmony(by_go: ChatChoice, renderers: Container[str]) -> ChatChoice:
    """The Go template shows the format; a renderer of it is exact where there is one."""
    renderer = HARMONY if HARMONY in renderers else ""
    parser = HARMONY if HARMONY in FAMILIES else by_go.format.parser
    format_ = msgspec.structs.replace(by_go.format, renderer=renderer, parser=parser)
    return ChatChoice(format_, by_go.capabilities)


def _variant(model: ChatModel) -> str:
    """The renderer; for Gemma 4 by the size in the model's name, else by its parameters."""
    if model.renderer != GEMMA4:
        return model.renderer
    name = model.name.lower()
    if any(size in name for size in SMALL_NAMES):
        return GEMMA4_SMALL
    is_large = model.parameter_count >= LARGE_PARAMETERS
    return GEMMA4_LARGE if is_large or any(s in name for s in LARGE_NAMES) else GEMMA4_SMALL


def _has(text: str | None, parts: tuple[str, ...]) -> bool:
    return all(part in (text or "") for part in parts)


def _ordered(capabilities: Container[str]) -> tuple[str, ...]:
    return tuple(name for name in CAPABILITIES if name in capabilities)
