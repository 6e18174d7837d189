"""How turns are worded in ChatML."""

from __future__ import annotations

START, END = "<|im_start|>", "<|im_end|>\n"
GENERATION = f"{START}assistant\n"
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"  # a prompt that holds it keeps the model from thinking


def turn(role: str, content: str, *, continued: bool = False) -> str:
    """A turn; one that is continued lacks its end. The role "developer" is another "system"."""
    name = "system" if role == "developer" else role
    return f"{START}{name}\n{content}{'' if continued else END}"


def thought(text: str) -> str:
    """A thought, as it stands before the content of a turn."""
    return f"<think>\n{text}\n</think>\n\n"
