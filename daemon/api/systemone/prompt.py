"""How is the model asked a question? (CONTRACT 2.8)

The prompts of one request differ only in their last words, so the prefix cache evaluates the state
and the questions once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ...chat.conversation import Conversation, Message
from .questions import Question

INSTRUCTIONS = (  # for models that were not trained on these prompts
    "You are given a context and a schema of fields, as JSON. Each field has a description and "
    "choices with codes. For the requested field, pick the choice that fits the context best, and "
    "answer with its code alone: one capital letter and nothing else."
)


def ask(system: str, state: str, questions: Sequence[Question]) -> list[Conversation]:
    """One conversation for each question, in their order; the model does not think first."""
    schema = [_field(question) for question in questions]
    asked = _json({"context": state, "schema": schema})
    before = (Message("system", system),) if system else ()
    return [
        Conversation(
            (*before, Message("user", f"{asked}\n\nRequested field: {_json(question.name)}")),
            think=False,
        )
        for question in questions
    ]


def _field(question: Question) -> dict[str, object]:
    choices = [
        {"code": code, "value": option.value, "description": option.description}
        for code, option in zip(question.codes, question.options, strict=True)
    ]
    return {"name": question.name, "description": question.instructions, "choices": choices}


def _json(value: object) -> str:
    """JSON that cannot spell a special token such as <|im_end|>."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")
