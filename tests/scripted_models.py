"""Which models with chosen answers do tests of clients talk to?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiny_scripted import DEFAULT, write_scripted
from weights import import_gguf

TALKER, THINKER, WRITER, CALLER = "talker", "thinker", "writer", "caller"
GEMMA, ROLLER, ROUTER = "gemma", "roller", "router"

HELLO = "Hello! I am a small model, and I say the same to everybody."
THOUGHT = "The user greets me, so I greet back."
CALL_THOUGHT = "I have to look at the weather."
RESULT_THOUGHT = "Now I know it."
CITY = "Paris"
REPORT = "It is 21 degrees and sunny."

RESULT = "<|result|>"  # the end of a prompt whose last message is the result of a tool
MESSAGES = (  # ChatML with tools, as Qwen 3 has it
    "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}\n{{ tool | tojson }}"
    "{% endfor %}\n</tools><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    '{% for call in m.tool_calls %}\n<tool_call>\n{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}"
)
TEMPLATE = (
    f"{MESSAGES}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% if messages[-1].role == 'tool' %}<|result|>{% endif %}{% endif %}"
)
THINK = ("<think>", "</think>")
CALL = ("<tool_call>", "</tool_call>")

# Tokens of the text in which a grammar leaves no choice.
WHOLES = re.compile(
    r'(?:<tool_call>)?\n?\{"name": "(?=get_weather)'  # which may be one of several tools
    r'|get_weather", "arguments": \{'
    r'|(?:<tool_call>)?\n?\{"name": "\w+", "arguments": \{'  # up to the arguments
    r'|(?:\{|, )?"\w+": (?:\d+|"?\w)'  # up to a value, and its start
    r'|"?\}\}\n(?:</tool_call>)?'  # after the last value
)

RESUMED = "<|channel>thought\n"  # the end of Gemma's prompt after a result, when it thinks
GEMMA_SPECIALS = (
    *("<bos>", "<|turn>", "<turn|>", "<|think|>", "<|tool>", "<tool|>", '<|"|>'),
    *("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>"),
    *("<|tool_response>", "<tool_response|>", RESUMED),
)


@dataclass(frozen=True, slots=True)
class ScriptRoute:
    """When the router says what."""

    answer: str
    tool: str = ""  # that is offered; "": any, or none
    word: str = ""  # in the last message
    after_result: bool | None = False  # the last message is the result of a tool; None: as may be

    @property
    def condition(self) -> str:
        """In Jinja."""
        parts = [f"'{self.tool}' in names"] if self.tool else []
        parts += [f"'{self.word}' in last.content"] if self.word else []
        if self.after_result is not None:
            parts.append(f"last.role {'==' if self.after_result else '!='} 'tool'")
        return " and ".join(parts) or "true"


def call_of(tool: str, /, **arguments: object) -> str:
    """A tool call as Qwen 3 writes it."""
    call = json.dumps({"name": tool, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def json_of(**fields: object) -> str:
    """An answer that a schema asks for."""
    return json.dumps(fields, ensure_ascii=False)


WEATHER = {"place": "Lyon", "degrees": 21}
PERSON = {"name": "Ada", "age": 36}
JOKE = {"setup": "Why do cats sit on keyboards?", "punchline": "To keep an eye on the mouse."}
ROUTES = (  # the first that fits counts
    ScriptRoute(call_of("magic_function", input=3), tool="magic_function"),
    ScriptRoute(call_of("magic_function_no_args"), tool="magic_function_no_args"),
    ScriptRoute(call_of("greeting_generator", answer_style="Pirate"), tool="greeting_generator"),
    ScriptRoute(call_of("my_adder_tool", a=3, b=4), tool="my_adder_tool"),
    ScriptRoute(
        call_of("unicode_customer", customer_name="你好啊集团", description="一家科技公司"),
        tool="unicode_customer",
        word="Chinese",
    ),
    ScriptRoute(
        call_of("unicode_customer", customer_name="こんにちは株式会社", description="日本の会社"),
        tool="unicode_customer",
    ),
    ScriptRoute(
        call_of("get_weather", location="San Francisco"), tool="get_weather", word="San Francisco"
    ),
    ScriptRoute(
        f"{call_of('get_weather', city='Rome')}\n{call_of('get_weather', city='Oslo')}",
        tool="get_weather",
        word="and",
    ),
    ScriptRoute(call_of("get_weather", city=CITY), tool="get_weather"),
    ScriptRoute(call_of("final_result", **WEATHER), tool="final_result", after_result=None),
    ScriptRoute(call_of("json_tool_call", **PERSON), tool="json_tool_call"),
    ScriptRoute(REPORT, after_result=True),
    ScriptRoute(json_of(**JOKE), word="joke"),
    ScriptRoute(json_of(**PERSON), word="person"),
)


def import_scripted(root: Path, folder: Path) -> None:
    """Put the scripted models into a store; `folder` takes their files.

    `talker` says HELLO. `thinker` thinks THOUGHT before; so does `writer`, which writes PERSON as
    JSON. `caller` thinks CALL_THOUGHT, calls `get_weather` with the city CITY, and says REPORT
    after the result of a tool. `gemma` does the same in the format of Gemma 4, and may think
    RESULT_THOUGHT after the result. `roller` is like it, but calls `roll` with 6 sides: in a
    grammar each quote has to be a special token, and a script can have one such. `router` answers
    by ROUTES, otherwise HELLO.
    """
    for name, gguf in write_models(folder):
        import_gguf(root, name, gguf, params={"temperature": 0}, config=config_of(name))


def config_of(name: str) -> dict[str, object]:
    """What a model's config says."""
    return {"renderer": "gemma4", "parser": "gemma4"} if name in (GEMMA, ROLLER) else {}


def write_models(folder: Path) -> Iterator[tuple[str, Path]]:
    """The names of the scripted models, and their files."""
    call = call_of("get_weather", city=CITY)
    yield TALKER, write_scripted(folder / "talker.gguf", HELLO)
    yield THINKER, _write_qwen(folder / "thinker.gguf", _thought(THOUGHT) + HELLO)
    yield (
        WRITER,
        _write_qwen(folder / "writer.gguf", _thought(THOUGHT).rstrip() + json_of(**PERSON)),
    )
    yield CALLER, _write_qwen(folder / "caller.gguf", _thought(CALL_THOUGHT) + call)
    quoted = f'get_weather{{city:<|"|>{CITY}<|"|>}}'
    yield GEMMA, _write_gemma(folder / "gemma.gguf", quoted)
    yield ROLLER, _write_gemma(folder / "roller.gguf", "roll{sides:6}", ("call:", "roll{sides:"))
    yield ROUTER, _write_router(folder / "router.gguf")


def _thought(text: str) -> str:
    return f"<think>\n{text}\n</think>\n\n"


def _write_qwen(path: Path, script: str) -> Path:
    """A model with Qwen 3's markers, which says REPORT after the result of a tool."""
    return write_scripted(
        path,
        {DEFAULT: script, RESULT: REPORT},
        template=TEMPLATE,
        specials=(*THINK, *CALL, RESULT),
        wholes=WHOLES.findall(script.replace("<tool_call>", "").replace("</tool_call>", "")),
    )


def _write_gemma(path: Path, call: str, wholes: Sequence[str] = ()) -> Path:
    thought = f"<|channel>thought\n{CALL_THOUGHT}<channel|>"
    scripts = {
        DEFAULT: f"{thought}<|tool_call>call:{call}<tool_call|>",
        "<tool_response|>": REPORT,
        RESUMED: f"{RESULT_THOUGHT}<channel|>{REPORT}",
    }
    return write_scripted(path, scripts, template=None, specials=GEMMA_SPECIALS, wholes=wholes)


def _write_router(path: Path) -> Path:
    ends = [f"<|route_{number}|>" for number in range(len(ROUTES))]
    branches = "".join(
        f"{{% {'elif' if number else 'if'} {route.condition} %}}{end}"
        for number, (route, end) in enumerate(zip(ROUTES, ends, strict=True))
    )
    template = (
        f"{MESSAGES}"
        "{% set last = messages[-1] %}"
        "{% set names = (tools or []) | map(attribute='function.name') | list %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        f"{branches}{{% endif %}}{{% endif %}}"
    )
    # The first scripts have their wholes for themselves.
    order = ("get_weather", "")  # the tool and the word of the very first
    routed = sorted(zip(ends, ROUTES, strict=True), key=lambda r: (r[1].tool, r[1].word) != order)
    scripts = {DEFAULT: HELLO, **{end: route.answer for end, route in routed}}
    wholes = [whole for script in scripts.values() for whole in WHOLES.findall(script)]
    return write_scripted(path, scripts, template=template, specials=ends, wholes=wholes)
