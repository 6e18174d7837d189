"""How does a plan say what it gives up, and why nothing fits? Sentences with numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...quant.memory import CELL_STEP, MemoryEstimate
from .budget import Budget, Excess
from .fit import FitProblem, Layout, LoadChoice, cheapest_of, fit, ladder, layouts
from .wish import LEAST_AUTO_CTX

CTX_PARTS = 16  # a context in a refusal is found in steps of one part of the asked one in so many
HALF = "an automatic context takes at most half of the memory that is left on the host"
SMALLER = "no context of it fits; a smaller model or quantisation may"
MAPPED = (
    "with the option use_mmap true its weights may stay on the disk in part, and each token waits "
    "for them"
)


def concessions_of(problem: FitProblem, choice: LoadChoice) -> tuple[str, ...]:
    """What the choice gives up of the wish, in the stated order, a sentence each."""
    return tuple(_concessions(problem, choice))


def placement_warning(problem: FitProblem, choice: LoadChoice) -> str:
    """Which layers are on the CPU beside a GPU, and why; "": none are."""
    place, layers = choice.placement, problem.layers
    if not problem.budget.gpus or (place.gpu_layers >= layers.total and not place.host_experts):
        return ""
    if place.gpu_layers < layers.total:
        count = layers.total - place.gpu_layers
        verb = "is" if count == 1 else "are"
        what = f"{_part(count, layers.total)} layers {verb} on the CPU"
    else:
        experts = _part(place.host_experts, layers.total - 1)
        what = f"the experts of {experts} layers are on the CPU"
    if problem.wish.gpu_layers is not None:
        return f"{what}, as num_gpu {problem.wish.gpu_layers} asks for"
    steps = ladder(problem, Layout(place.split, choice.main_gpu))
    fuller = steps[steps.index(place) - 1]
    return f"{what}: {_why(problem, problem.cheapest(fuller, choice.main_gpu))}"


def summary_of(problem: FitProblem, choice: LoadChoice, need: MemoryEstimate) -> str:
    """How a model is loaded, in one line: slots, context, cache, devices, memory."""
    parts = [
        _count(choice.slots, "slot"),
        f"{choice.num_ctx:,} tokens",
        f"{choice.kv_type} KV",
        *(["a drafter"] if choice.drafter else []),
        _where(problem, choice),
    ]
    used = "; ".join(_usage(problem.budget, need))
    return f"{', '.join(parts)}; {used}"


def refusal_of(problem: FitProblem, name: str) -> str:
    """Why no choice fits, and the nearest that would."""
    cheapest = cheapest_of(problem, layouts(problem.wish, problem.budget)[-1])
    excess, total_bytes = problem.excess(cheapest), problem.need_of(cheapest).total_bytes
    assert excess, "a refusal is for what does not fit"
    needed, room = _distinct(excess.need_bytes, excess.room_bytes)
    needs = f"{name} needs at least {needed} with num_ctx {cheapest.num_ctx} on {excess.device}"
    beside = f" (of {gib(total_bytes)} in all)" if total_bytes > excess.need_bytes else ""
    return f"{needs}{beside}, which has room for {room}; {_nearest(problem)}"


def gib(num_bytes: int, digits: int = 1) -> str:
    """A size as people read it; below 1 GiB in MiB."""
    if num_bytes < 1 << 30:
        return f"{num_bytes / (1 << 20):.{digits - 1}f} MiB"
    return f"{num_bytes / (1 << 30):.{digits}f} GiB"


def _concessions(problem: FitProblem, choice: LoadChoice) -> Iterator[str]:
    wish = problem.wish
    if wish.asked_ctx > wish.most_ctx:
        cut = f"{wish.most_ctx:,} tokens of context in place of {wish.asked_ctx:,}"
        yield f"{cut}: the model was trained with no more"
    if choice.num_ctx < wish.most_ctx:
        longer = replace(choice, num_ctx=choice.num_ctx + CELL_STEP)
        most = replace(choice, num_ctx=wish.most_ctx)
        why = _why(problem, most) if problem.excess(longer) else HALF
        yield f"the context shrinks from {wish.most_ctx:,} to {choice.num_ctx:,} tokens: {why}"
    least = replace(choice, num_ctx=wish.least_ctx)
    if choice.kv_type != wish.kv_types[0]:
        better = wish.kv_types[wish.kv_types.index(choice.kv_type) - 1]
        why = _why(problem, replace(least, kv_type=better))
        yield f"the KV cache is {choice.kv_type} in place of {wish.kv_types[0]}: {why}"
    least = replace(least, kv_type=wish.kv_types[-1])
    if choice.slots != wish.slots[0]:
        more = wish.slots[wish.slots.index(choice.slots) - 1]
        why = _why(problem, replace(least, slots=more))
        yield f"{_count(choice.slots, 'slot')} in place of {wish.slots[0]}: {why}"
    least = replace(least, slots=wish.slots[-1])
    if choice.drafter != wish.drafters[0]:
        why = _why(problem, replace(least, drafter=wish.drafters[0]))
        yield f"no drafter: {why}"
    if wish.gpu_layers is None and (warning := placement_warning(problem, choice)):
        yield warning


def _why(problem: FitProblem, fuller: LoadChoice) -> str:
    """Why a choice that gives up less is not taken."""
    excess = problem.excess(fuller)
    return _lack(excess) if excess else HALF


def _lack(excess: Excess) -> str:
    need, room = _distinct(excess.need_bytes, excess.room_bytes)
    return f"{need} would be needed on {excess.device}, which has room for {room}"


def _distinct(more: int, less: int) -> tuple[str, str]:
    """Two sizes with as many digits as tell them apart."""
    pairs = ((gib(more, digits), gib(less, digits)) for digits in (1, 2, 3))
    return next((pair for pair in pairs if pair[0] != pair[1]), (f"{more:,} B", f"{less:,} B"))


def _where(problem: FitProblem, choice: LoadChoice) -> str:
    place, total = choice.placement, problem.layers.total
    used = [
        room.device for room, share in zip(problem.budget.gpus, place.split, strict=False) if share
    ]
    if not used or not place.gpu_layers:
        return "on the CPU"
    count = "all" if place.gpu_layers >= total else f"{place.gpu_layers} of"
    experts = f" but {_count(place.host_experts, 'layer')} of experts" if place.host_experts else ""
    return f"{count} {total} layers{experts} on {' and '.join(used)}"


def _usage(budget: Budget, need: MemoryEstimate) -> Iterator[str]:
    """What is taken of the room on each device that is used."""
    rooms = (budget.host, *budget.gpus)
    for room, part in zip(rooms, (need.host, *need.gpus), strict=False):
        if part.total_bytes:
            yield f"{gib(part.total_bytes)} of {gib(room.room_bytes)} on {room.device}"


def _nearest(problem: FitProblem) -> str:
    for least_ctx in (LEAST_AUTO_CTX, CELL_STEP):
        for wish in problem.wish.relaxed(least_ctx):
            relaxed = replace(problem, wish=wish)
            if not problem.wish.is_auto_ctx:
                relaxed = _with_long_context(relaxed)
            if choice := fit(relaxed):
                return f"{_differences(problem, choice)} would fit"
    if not problem.budget.gpus and not problem.maps_weights:
        return f"{SMALLER}, and {MAPPED}"
    return SMALLER


def _with_long_context(problem: FitProblem) -> FitProblem:
    """The problem with a context that is nearly as long as possible: whoever asks for a long one
    gives up other things for it."""
    wish = problem.wish
    parts = range(CTX_PARTS - 1, 0, -1)
    longer = [wish.most_ctx * part // CTX_PARTS // CELL_STEP * CELL_STEP for part in parts]
    contexts = [*(num_ctx for num_ctx in longer if num_ctx > wish.least_ctx), wish.least_ctx]

    def fits(num_ctx: int) -> bool:
        asked = replace(problem, wish=replace(wish, least_ctx=num_ctx))
        return not asked.excess(cheapest_of(asked, layouts(wish, problem.budget)[-1]))

    found = min(bisect_left(contexts, True, key=fits), len(contexts) - 1)
    return replace(problem, wish=replace(wish, least_ctx=contexts[found]))


def _differences(problem: FitProblem, choice: LoadChoice) -> str:
    """What a user sets for this choice."""
    wish = problem.wish
    words = [f"num_ctx {choice.num_ctx}"]
    if choice.kv_type != wish.kv_types[0]:
        words.append(f"{choice.kv_type} KV")
    if choice.slots != wish.slots[0]:
        words.append(_count(choice.slots, "slot"))
    if choice.drafter != wish.drafters[0]:
        words.append("no drafter")
    if wish.gpu_layers is not None and choice.placement.gpu_layers != wish.gpu_layers:
        words.append(f"num_gpu {choice.placement.gpu_layers}")
    first, *others = words
    return f"{first} with {_listed(others)}" if others else first


def _listed(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _part(number: int, total: int) -> str:
    return f"all {total}" if number == total else f"{number} of {total}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
