"""Which models with chosen answers do tests of clients talk to?"""

from __future__ import annotations

from pathlib import Path

from tiny_scripted import DEFAULT, write_scripted
from weights import import_gguf

TALKER, THINKER, CALLER = "talker", "thinker", "caller"

HELLO = "Hello! I am a small model, and I say the same to everybody."
THOUGHT = "The user greets me, so I greet back."
CALL_THOUGHT = "I have to look at the weather."
CITY = "Paris"
REPORT = "It is 21 degrees and sunny."

RESULT = "<|result|>"  # the end of a prompt whose last message is the result of a tool
TEMPLATE = (  # ChatML with tools and thinking, as Qwen 3 has it
    "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}\n{{ tool | tojson }}"
    "{% endfor %}\n</tools><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    '{% for call in m.tool_calls %}\n<tool_call>\n{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% if messages[-1].role == 'tool' %}<|result|>{% endif %}{% endif %}"
)
THINK = ("<think>", "</think>")
CALL = ("<tool_call>", "</tool_call>")


def import_scripted(root: Path, folder: Path) -> None:
    """Put the scripted models into a store; `folder` takes their files.

    `talker` says HELLO. `thinker` thinks THOUGHT before. `caller` thinks CALL_THOUGHT, calls
    `get_weather` with the city CITY, and says REPORT after the result of a tool.
    """
    call = f'{{"name": "get_weather", "arguments": {{"city": "{CITY}"}}}}'
    calling = f"<think>\n{CALL_THOUGHT}\n</think>\n\n<tool_call>\n{call}\n</tool_call>"
    talker = write_scripted(folder / "talker.gguf", HELLO)
    thinker = write_scripted(
        folder / "thinker.gguf",
        f"<think>\n{THOUGHT}\n</think>\n\n{HELLO}",
        template=TEMPLATE,
        specials=(*THINK, *CALL, RESULT),
    )
    caller = write_scripted(
        folder / "caller.gguf",
        {DEFAULT: calling, RESULT: REPORT},
        template=TEMPLATE,
        specials=(*THINK, *CALL, RESULT),
    )
    for name, gguf in ((TALKER, talker), (THINKER, thinker), (CALLER, caller)):
        import_gguf(root, name, gguf, params={"temperature": 0})
