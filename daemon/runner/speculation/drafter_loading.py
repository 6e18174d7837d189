"""Which drafter with weights fits a target, and why is another one refused?"""

from __future__ import annotations

import msgspec

from ...errors import LoadFailed
from ...protocol import MAX_MODEL_DRAFTS, Load
from ..llama.context import TextContext
from ..llama.devices import read_devices
from ..llama.draft_contexts import (
    AssistantContext,
    EagleContext,
    NextnContext,
    TrimmedAssistantContext,
)
from ..llama.draft_vocab import check_draft_vocab, read_draft_vocab
from ..llama.loading import LoadedContext
from ..llama.model import LlamaModel
from ..llama.placement import place_drafter
from .drafters.assistant import AssistantDrafter
from .drafters.drafter import Drafter
from .drafters.head import HeadDrafter
from .drafters.model import ModelDrafter

# Architectures as llama.cpp names them in `general.architecture` (GUIDE 2).
ASSISTANT = "gemma4-assistant"
EAGLE = "eagle3"
EAGLE_TARGETS = ("llama", "qwen3", "qwen3moe", "qwen35", "qwen35moe", "gpt-oss", "gemma4")
MTP_HEAD_TARGETS = ("qwen35", "qwen35moe")
MAX_PADDING = 128  # tokens by which the ends of two vocabularies may differ
NUM_COMPARED = 4096
"""Tokens that are compared, spread evenly over both vocabularies, which bounds the load time."""


def load_drafter(loaded: LoadedContext[TextContext], load: Load) -> Drafter:
    """Load the drafter `load.draft`, or else the target's own MTP head.

    Must come before the target's first decode (GUIDE 0.4). Raises LoadFailed with what was expected
    if the drafter does not fit the target.
    """
    try:
        with loaded.log.of_drafter():
            return _load_drafter(loaded, load)
    except LoadFailed:
        loaded.log.forget_drafter()
        raise


def _load_drafter(loaded: LoadedContext[TextContext], load: Load) -> Drafter:
    rows = max(load.batch, load.slots * (2 + MAX_MODEL_DRAFTS))
    own = msgspec.structs.replace(
        load, model=load.draft, adapters=(), draft="", mtp=False, batch=rows
    )
    if not load.draft:
        check_head(loaded.model)
        return HeadDrafter("nextn", NextnContext(loaded.context, own), rows, load.slots)
    placement = place_drafter(loaded.model.shared_cache_devices, read_devices())
    model = LlamaModel(load.draft, own, loaded.log, placement)
    try:
        if model.architecture == ASSISTANT:
            return AssistantDrafter(loaded.context, _load_assistant(model, loaded.context, load))
        if model.architecture == EAGLE:
            check_eagle(model, loaded.model)
            head = EagleContext(model, loaded.context, own)
            return HeadDrafter("eagle3", head, rows, load.slots)
        check_vocabulary(model, loaded.model)
        if model.is_recurrent:
            raise LoadFailed(
                "a drafter must be able to remove draft tokens; a recurrent one cannot"
            )
        num_tokens = loaded.model.num_tokens
        return ModelDrafter(TextContext(model, own), rows, load.slots, num_tokens)
    except LoadFailed:
        model.close()
        raise


def _load_assistant(model: LlamaModel, target: TextContext, load: Load) -> AssistantContext:
    """Its context; one with a trimmed head is compared by the tokens that it has."""
    check_assistant(model, target.model)
    if vocab := read_draft_vocab(model, load.draft):
        check_draft_vocab(vocab, target.model)
        return TrimmedAssistantContext(model, target, load, vocab.tokens)
    check_vocabulary(model, target.model)
    return AssistantContext(model, target, load)


def check_head(model: LlamaModel) -> None:
    """Raises LoadFailed unless MTP heads of this architecture are supported."""
    if model.architecture not in MTP_HEAD_TARGETS:
        raise LoadFailed(
            f"heads of {model.architecture} are not supported; of {MTP_HEAD_TARGETS} they are"
        )


def check_eagle(model: LlamaModel, target: LlamaModel) -> None:
    """Raises LoadFailed unless the head fits the layers of the target."""
    if target.architecture not in EAGLE_TARGETS:
        raise LoadFailed(
            f"an {EAGLE} head cannot read the layers of {target.architecture}; "
            f"it can read those of {EAGLE_TARGETS}"
        )
    if model.target_width != target.width:
        raise LoadFailed(
            f"its target has layers of width {model.target_width}, "
            f"and this model's are of width {target.width}"
        )
    if max(model.target_layers) > target.num_layers:
        raise LoadFailed(
            f"it reads layer {max(model.target_layers)}, and this model has {target.num_layers}"
        )
    check_vocabulary(model, target)


def check_assistant(model: LlamaModel, target: LlamaModel) -> None:
    """Raises LoadFailed unless the assistant fits the hidden rows of the target.

    Its vocabulary is checked apart, for it may be a part of the target's.
    """
    if target.architecture != "gemma4":
        raise LoadFailed(f"a {ASSISTANT} drafts for gemma4, and this is {target.architecture}")
    if model.hidden_width != target.hidden_width:
        raise LoadFailed(
            f"its target has hidden rows of {model.hidden_width}, "
            f"and this model's are of {target.hidden_width}"
        )


def check_vocabulary(model: LlamaModel, target: LlamaModel) -> None:
    """Raises LoadFailed unless the tokens that both have stand for the same text.

    The padding at the end may differ, by as many tokens as in llama.cpp's own examples.
    """
    if abs(model.num_tokens - target.num_tokens) > MAX_PADDING:
        raise LoadFailed(
            f"its vocabulary has {model.num_tokens} tokens, and this model's {target.num_tokens}"
        )
    common = min(model.num_tokens, target.num_tokens)
    for token in range(0, common, max(common // NUM_COMPARED, 1)):
        if model.piece(token, special=True) != target.piece(token, special=True):
            raise LoadFailed(
                f"token {token} is {model.piece(token, special=True)!r} in its vocabulary, and "
                f"{target.piece(token, special=True)!r} in this model's"
            )
