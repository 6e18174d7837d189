"""Does a drafter fit a model, as far as both headers tell, and which does a model card name?"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from ...quant.gguf import Header
from .hf_selection import DRAFTER_MARKS

TOKENS: Final = "tokenizer.ggml.tokens"
_ASSISTANT: Final = "gemma4-assistant"  # the drafter of gemma4 alone (CONTRACT 9.3)
_NO_MODELS: Final = ("adapter", "projector", "mmproj", "imatrix")  # values of `general.type`

# Where a drafter states the width of the hidden rows that it reads; the first that is there counts.
_WIDTH_KEYS: Final = ("embedding_length_out", "target_hidden_size", "embedding_length")

MAX_NAMED: Final = 3  # repositories that a card names and that are looked at
_CARD_KEYS: Final = ("drafter", "draft_model", "assistant_model")
_ID: Final = re.compile(r"[\w-]+/[\w.-]*\w", re.ASCII)
_LINK: Final = re.compile(r"(?:huggingface\.co|hf\.co)/(?P<id>[\w-]+/[\w.-]*\w)", re.ASCII)
_NO_USERS: Final = ("datasets", "spaces", "collections", "docs", "blog", "papers", "models")
_NAMES: Final = (*(mark.strip("-") for mark in DRAFTER_MARKS), "drafter", "draft")


def is_model(header: Header) -> bool:
    """Whether the file holds the weights of a model, by its header."""
    return header.architecture != "clip" and header.text("general.type") not in _NO_MODELS


def find_misfit(target: Header, drafter: Header) -> str:
    """Why the drafter cannot draft for the target; "" if it fits.

    Both headers must have been read with the array TOKENS.
    """
    if not is_model(drafter):
        return "it is no model"
    if drafter.architecture == _ASSISTANT and target.architecture != "gemma4":
        return f"it drafts for gemma4, and the model is {target.architecture}"
    if drafter.size_bytes >= target.size_bytes:
        return "it is not smaller than the model"
    width, expected = drafted_width(drafter), target.embedding_length
    if width is None or width != expected:
        return f"it drafts for a hidden width of {width}, and the model's is {expected}"
    return _vocabulary_misfit(target, drafter)


def drafted_width(drafter: Header) -> int | None:
    """The width of the hidden rows that the drafter reads (CONTRACT 9.3)."""
    keys = (f"{drafter.architecture}.{key}" for key in _WIDTH_KEYS)
    return next((width for key in keys if (width := drafter.number(key))), None)


def _vocabulary_misfit(target: Header, drafter: Header) -> str:
    own, theirs = target.values.get(TOKENS), drafter.values.get(TOKENS)
    if not isinstance(own, list):
        return "the model states no vocabulary"
    if not isinstance(theirs, list):
        return "it states no vocabulary"
    if len(own) != len(theirs):
        return f"its vocabulary has {len(theirs)} tokens, and the model's {len(own)}"
    for index, (token, other) in enumerate(zip(own, theirs, strict=True)):
        if token != other:
            return f"token {index} is {other!r} in its vocabulary, and {token!r} in the model's"
    return ""


def named_drafters(repository: str, card: Mapping[str, object], readme: str) -> tuple[str, ...]:
    """The repositories of drafters that a model card names, the most explicit ones first.

    These are the values of `drafter`, `draft_model` and `assistant_model` in its data, then links
    to repositories whose name has a drafter's mark.
    """
    linked = (match["id"] for match in _LINK.finditer(readme))
    found = [*_stated(card), *(name for name in linked if _sounds_like_drafter(name))]
    others = (name for name in found if name.lower() != repository.lower())
    return tuple(dict.fromkeys(others))[:MAX_NAMED]


def _stated(card: Mapping[str, object]) -> Iterator[str]:
    for key in _CARD_KEYS:
        value = card.get(key)
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and _ID.fullmatch(name):
                yield name


def _sounds_like_drafter(repository: str) -> bool:
    user, _, name = repository.lower().partition("/")
    words = re.split(r"[-_.]", name)
    return user not in _NO_USERS and any(
        mark in words if mark in ("mtp", "draft") else mark in name for mark in _NAMES
    )
