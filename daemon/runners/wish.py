"""What does a request ask of a load, and what does it leave to the plan?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...quant.gguf import Header
from ..config import Settings
from ..options import Options
from .model_info import ModelInfo

LEAST_AUTO_CTX = 4096  # tokens; an automatic context has at least so many, or the model's own
MIN_NUM_CTX = 4  # tokens
MIN_VISION_CTX = 2048  # tokens; an image takes hundreds of them (CONTRACT 5.4)
# An encoder evaluates a text as a whole, so its buffers grow with the square of its context. No
# published encoder was trained for a longer one.
MOST_ENCODER_CTX = 8192  # tokens of an automatic context
AUTO_SLOTS = (4, 2, 1)
AUTO_KV_TYPES = ("f16", "q8_0", "q4_0")
KV_BLOCK = 32  # elements of a block of q8_0 and q4_0; a head is a whole number of them (GUIDE 1.4)
LAST_POOLING = 3  # LLAMA_POOLING_TYPE_LAST: the last token's row is the vector (GUIDE 1.13)


@dataclass(frozen=True, slots=True)
class DrafterFiles:
    """What drafts, beside the search for repetitions, which needs no memory of a device."""

    path: str = ""  # of its weights; "": none of its own
    mtp: bool = False  # the head in the model's own weights
    header: Header | None = field(default=None, compare=False)  # of its weights

    def __bool__(self) -> bool:
        return bool(self.path) or self.mtp


NO_DRAFTER = DrafterFiles()


@dataclass(frozen=True, slots=True)
class Wish:
    """Each field holds what may be chosen, the best first; a single choice is never given up."""

    least_ctx: int  # tokens of context
    most_ctx: int
    is_auto_ctx: bool
    kv_types: tuple[str, ...]
    slots: tuple[int, ...]
    drafters: tuple[DrafterFiles, ...]
    gpu_layers: int | None = None  # the output counts as one more; None: as many as fit
    main_gpu: int | None = None  # None: the one with the most free memory
    spreads: bool = False  # over all GPUs, even if one of them suffices
    asked_ctx: int = 0  # tokens that the request or the model asks for; 0: none

    def relaxed(self, least_ctx: int) -> tuple[Wish, ...]:
        """Less and less demanding wishes, in the order in which a plan gives things up: first
        none but for a context of `least_ctx` tokens."""
        shorter = replace(self, least_ctx=min(least_ctx, self.least_ctx), is_auto_ctx=False)
        smaller = replace(shorter, kv_types=tuple(dict.fromkeys((*self.kv_types, *AUTO_KV_TYPES))))
        fewer = replace(smaller, slots=tuple(n for n in (*self.slots, 2, 1) if n <= self.slots[0]))
        alone = replace(fewer, drafters=(*self.drafters, NO_DRAFTER))
        return shorter, smaller, fewer, alone, replace(alone, gpu_layers=None)


def wish_of(info: ModelInfo, options: Options, settings: Settings, *, embedding: bool) -> Wish:
    """The wish of a request with these options."""
    explicit = explicit_context(info, options, settings)
    least, most = (explicit, explicit) if explicit else _auto_contexts(info, embedding)
    slots = (settings.num_parallel,) if settings.num_parallel else AUTO_SLOTS
    return Wish(
        least_ctx=least,
        most_ctx=most,
        is_auto_ctx=explicit is None,
        kv_types=_kv_types(info, settings),
        slots=(1,) if embedding else slots,
        drafters=(NO_DRAFTER,) if embedding else _drafters(info, settings),
        gpu_layers=None if options.num_gpu < 0 else options.num_gpu,
        main_gpu=options.main_gpu,
        spreads=settings.sched_spread,
        asked_ctx=max(options.num_ctx, 0),
    )


def explicit_context(info: ModelInfo, options: Options, settings: Settings) -> int | None:
    """Tokens of context that request or settings ask for (CONTRACT 5.4); None: for none.

    A request for none, or for fewer than none, has no wish.
    """
    wish = max(options.num_ctx, 0) or settings.context_length
    if not wish:
        return None
    num_tokens = max(wish, MIN_VISION_CTX if info.model.projector_paths else MIN_NUM_CTX)
    return max(MIN_NUM_CTX, min(num_tokens, info.header.context_length or num_tokens))


def evaluates_whole(header: Header) -> bool:
    """Whether an embedding model evaluates a text in one batch.

    Where the last token's row is the vector, or the model has no pooling of its own, a text may
    come in pieces (GUIDE 1.13).
    """
    return header.pooling not in (None, LAST_POOLING)


def _auto_contexts(info: ModelInfo, embedding: bool) -> tuple[int, int]:
    """The least and the largest automatic context; a model that states none gets the least."""
    own = info.header.context_length or LEAST_AUTO_CTX
    if embedding and evaluates_whole(info.header):
        own = min(own, MOST_ENCODER_CTX)
    own = max(MIN_NUM_CTX, own)
    return min(LEAST_AUTO_CTX, own), own


def _drafters(info: ModelInfo, settings: Settings) -> tuple[DrafterFiles, ...]:
    """A drafter that the settings name is never given up."""
    path = info.model.draft_path or settings.draft or info.adjacent_drafter
    if path:
        drafter = DrafterFiles(str(path), header=info.drafter)
        is_kept = path == settings.draft
        return (drafter,) if is_kept else (drafter, NO_DRAFTER)
    if info.header.has_mtp and settings.speculation != 0:
        return DrafterFiles(mtp=True), NO_DRAFTER
    return (NO_DRAFTER,)


def _kv_types(info: ModelInfo, settings: Settings) -> tuple[str, ...]:
    """llama.cpp quantises the cache only with flash attention and whole blocks (GUIDE 1.4)."""
    if settings.kv_cache_type:
        return (settings.kv_cache_type,)
    is_whole = all(width % KV_BLOCK == 0 for width in _head_widths(info.header))
    can_quantise = settings.flash_attention is not False and is_whole
    return AUTO_KV_TYPES if can_quantise else AUTO_KV_TYPES[:1]


def _head_widths(header: Header) -> list[int]:
    keys = (f"attention.{side}_length{end}" for side in ("key", "value") for end in ("", "_swa"))
    stated = [header.number(f"{header.architecture}.{key}") for key in keys]
    if widths := [width for width in stated if width]:
        return widths
    heads = header.number(f"{header.architecture}.attention.head_count")
    return [(header.embedding_length or 0) // heads] if heads else []
