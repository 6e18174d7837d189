"""The output format that a Jinja template implies: excerpts of public templates."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.parse.detect import Detected, detect
from outrider.daemon.chat.parse.registry import FAMILIES

pytestmark = pytest.mark.unit

THINK = "{{ '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}"
TOOLS = "{% if tools %}{% endif %}"

PARSERS = [
    ("{{ '<|tool_call>call:' + name }}{% for tool in tools %}", "gemma4"),
    ("{{ '<|channel>thought\n' }}", "gemma4"),
    ("{{ '<|start|>assistant<|channel|>final<|message|>' }}", "harmony"),
    (TOOLS + "{{ '<tool_call>\n<function=' + name }}", "qwen3-coder"),
    (TOOLS + THINK + "{{ '<tool_call>\n<function=' + name }}", "qwen3.5"),
    (TOOLS + THINK + "{{ '<tool_call>' + name + '<arg_key>' }}", "glm-4.7"),
    (TOOLS + "{{ '<tool_call>\n{\"name\": ' }}", "hermes"),
    (TOOLS + THINK + "{{ '<tool_call>\n{\"name\": ' }}", "qwen3-thinking"),
    (TOOLS + "{{ '[TOOL_CALLS] [' }}", "mistral"),
    (TOOLS + "{{ '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}", "ministral"),
    (TOOLS + "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}", "llama3"),
    (TOOLS + "{{ '<|python_tag|>' + tool_call.name + '.call(' }}", "llama3"),
    (TOOLS + "{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' }}", "deepseek3"),
    (TOOLS + "{{ 'List of tools: <|tool_list_start|>[' }}", "lfm2"),
    (TOOLS + THINK + "{{ '<|tool_call_start|>[' }}", "lfm2-thinking"),
    (TOOLS + "{{ '<start_function_call>call:' }}", "functiongemma"),
    (TOOLS + "{{ '<function_calls>' }}", "olmo3"),
    (TOOLS + THINK + "{{ '<function_calls>' }}", "olmo3-think"),
    (TOOLS + "{{ '<|START_THINKING|><|END_THINKING|><|START_ACTION|>[' }}", "cohere"),
    (TOOLS + "{{ '<|start_of_role|>' }}{{ '<|tool_call|>' }}", "granite"),
    (TOOLS + "{{ '<|start_of_role|>' }}{{ '<tool_call>\n' }}", "granite"),
    (TOOLS + "{{ '<|tool|>' + tools + '<|/tool|>' }}", "phi-4"),
    (TOOLS + "{{ '<|tool_calls_section_begin|>' }}", "kimi-k2"),
    (TOOLS + "{{ '<|im_system|>tool_declare<|im_middle|>' }}", "kimi-k2"),
    (TOOLS + "{{ '<TOOLCALL>[' }}", "nemotron"),
    (TOOLS + "{{ 'Action:```json\n[{\"tool_name\": ' }}", "command-r"),
    (TOOLS + "{{ tools | tojson }}", "json"),
    (THINK, "thinking"),
    ("{{ '<|start_header_id|>user<|end_header_id|>\n\n' }}", ""),
    ("{{ '<|im_start|>user\n' }}", ""),
    ("", ""),
]


def test_each_detected_parser_exists() -> None:
    elsewhere = {"gemma4", "harmony", "functiongemma", ""}
    assert {parser for _, parser in PARSERS} <= set(FAMILIES) | elsewhere


@pytest.mark.parametrize(("jinja", "parser"), PARSERS)
def test_markers_imply_a_parser(jinja: str, parser: str) -> None:
    assert detect(jinja).parser == parser


@pytest.mark.parametrize(
    ("jinja", "tags"),
    [
        (THINK, ("<think>", "</think>")),
        ("{% set c = content.split('</think>')[-1] %}", ("<think>", "</think>")),
        ('{% set c = content.split( "</think>", 1)[1] %}', ("<think>", "</think>")),
        ("{{ '</think>' }}", ("", "")),
        ("{{ '<think>' }}", ("", "")),
        ("{{ '[THINK]' + thought + '[/THINK]' }}", ("[THINK]", "[/THINK]")),
        ("{{ '<seed:think>' }}{{ '</seed:think>' }}", ("<seed:think>", "</seed:think>")),
        ("<|START_THINKING|>{{ x }}<|END_THINKING|>", ("<|START_THINKING|>", "<|END_THINKING|>")),
    ],
)
def test_the_tags_of_a_thought(jinja: str, tags: tuple[str, str]) -> None:
    found = detect(jinja)
    assert (found.think_open, found.think_close) == tags
    assert found.thinks is bool(tags[0])


def test_channels_are_thinking_without_tags() -> None:
    assert detect("<|channel|><|message|>") == Detected("harmony", "", "", True, False)
    assert detect("{{ '<|channel>' }}{{ tools }}") == Detected("gemma4", "", "", True, True)
    assert not detect("{{ '<|tool_call>' }}{{ tools }}").thinks


@pytest.mark.parametrize(
    ("jinja", "calls"),
    [("{{ tools }}", True), ("{{ message.tool_calls }}", True), ("{{ tool }}", False)],
)
def test_a_template_that_mentions_tools_calls_them(jinja: str, calls: bool) -> None:
    assert detect(jinja).calls is calls
