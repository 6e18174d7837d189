"""Which drafter with weights goes with a target, and why another one does not."""

from __future__ import annotations

import msgspec

from ..errors import LoadFailed
from ..protocol import MAX_DRAFTS, Load
from .drafters.assistant import AssistantDrafter
from .drafters.drafter import Drafter
from .drafters.model import ModelDrafter
from .drafters.nextn import NextnDrafter
from .llama import AssistantContext, Context, Loaded, Model, NextnContext

ASSISTANT = "gemma4-assistant"
HEADED = ("qwen35", "qwen35moe")
NUM_COMPARED = 4096  # tokens of two vocabularies, spread over all of them


def load_drafter(loaded: Loaded[Context], load: Load) -> Drafter:
    """The drafter of `load.draft`, or the head of the model's own. Must come before the
    target's first decode (guide 0.4).

    Raises LoadFailed with what was expected if it does not go with the target.
    """
    rows = max(load.batch, load.slots * (2 + MAX_DRAFTS))
    own = msgspec.structs.replace(load, model=load.draft, draft="", mtp=False, batch=rows)
    if not load.draft:
        check_head(loaded.model)
        head = NextnContext(loaded.context, own)
        return NextnDrafter(loaded.context, head, rows, load.slots)
    model = Model(load.draft, own, loaded.log)
    try:
        if model.architecture == ASSISTANT:
            check_assistant(model, loaded.model)
            context = AssistantContext(model, loaded.context, load)
            return AssistantDrafter(loaded.context, context)
        check_vocabulary(model, loaded.model)
        if model.is_recurrent:
            raise LoadFailed("a drafter must be able to take guesses back; a recurrent one cannot")
        return ModelDrafter(Context(model, own), rows, load.slots)
    except LoadFailed:
        model.close()
        raise


def check_head(model: Model) -> None:
    """Raises LoadFailed unless the model is of a kind whose head is known to work as it should."""
    if model.architecture not in HEADED:
        raise LoadFailed(f"heads of {model.architecture} are not supported; of {HEADED} they are")


def check_assistant(model: Model, target: Model) -> None:
    """Raises LoadFailed unless the drafter was made for targets of this shape."""
    if target.architecture != "gemma4":
        raise LoadFailed(f"a {ASSISTANT} drafts for gemma4, and this is {target.architecture}")
    if model.hidden_width != target.hidden_width:
        raise LoadFailed(
            f"its target has hidden rows of {model.hidden_width}, "
            f"and this model's are of {target.hidden_width}"
        )
    check_vocabulary(model, target)


def check_vocabulary(model: Model, target: Model) -> None:
    """Raises LoadFailed unless both mean the same text by a token."""
    if model.num_tokens != target.num_tokens:
        raise LoadFailed(
            f"its vocabulary has {model.num_tokens} tokens, and this model's {target.num_tokens}"
        )
    for token in range(0, target.num_tokens, max(target.num_tokens // NUM_COMPARED, 1)):
        if model.piece(token, special=True) != target.piece(token, special=True):
            raise LoadFailed(
                f"token {token} is {model.piece(token, special=True)!r} in its vocabulary, and "
                f"{target.piece(token, special=True)!r} in this model's"
            )
