"""What is given up until a load fits, and what is the best that does?

A plan gives up, in this order, the automatic context, the type of the KV cache, slots, the drafter,
and layers on GPUs: of a mixture of experts the expert tensors first, then whole layers. So what
comes last in this order is worth most: of all choices that fit, the one with the fewest layers on
the host is taken; among those, one with a drafter; then the one with the most slots, the best type
of the cache, and the longest context. Nothing is given up that does not help.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ...quant.memory import CELL_STEP, MemoryEstimate, Placement
from .budget import Budget, Excess, host_bytes
from .wish import DrafterFiles, Wish

COMFORTABLE_CTX = 16384  # tokens; a model is not unloaded for the sake of a longer context
HUNDREDTHS = 2  # digits of the share of a GPU
ON_HOST = Placement()


@dataclass(frozen=True, slots=True)
class LoadChoice:
    """What a plan decides."""

    num_ctx: int
    kv_type: str
    slots: int
    drafter: DrafterFiles
    placement: Placement = ON_HOST
    main_gpu: int | None = None


NeedOf = Callable[[LoadChoice], MemoryEstimate]
"""What a choice takes on each device."""


@dataclass(frozen=True, slots=True)
class LayerCount:
    """Which layers a model has to place."""

    total: int  # the output counts as one more
    has_experts: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Over which GPUs layers are split."""

    split: tuple[float, ...] = ()  # as in Placement
    main_gpu: int | None = None


@dataclass(frozen=True, slots=True)
class FitProblem:
    """A wish, a machine, and what each choice takes there."""

    wish: Wish
    budget: Budget
    layers: LayerCount
    need_of: NeedOf
    maps_weights: bool = False  # the host may drop the weights and read them again, at a price

    def excess(self, choice: LoadChoice) -> Excess | None:
        """The device that lacks most for it; None: it fits."""
        need = self.need_of(choice)
        return self.budget.excess(need, mapped_bytes=self._mapped_bytes(need))

    def host_need(self, choice: LoadChoice) -> int:
        """Bytes that it takes of the host for good."""
        need = self.need_of(choice)
        return host_bytes(need, self.budget) - self._mapped_bytes(need)

    def cheapest(self, placement: Placement, main_gpu: int | None) -> LoadChoice:
        """Everything is given up but layers."""
        wish = self.wish
        last = wish.kv_types[-1], wish.slots[-1], wish.drafters[-1]
        return LoadChoice(wish.least_ctx, *last, placement, main_gpu)

    def _mapped_bytes(self, need: MemoryEstimate) -> int:
        return need.host.weights_bytes if self.maps_weights else 0


def fit(problem: FitProblem) -> LoadChoice | None:
    """The best choice that fits; None: none does.

    One GPU is enough if nothing but context has to be given up there, and that stays comfortable.
    """
    first, *others = layouts(problem.wish, problem.budget)
    if others:
        placement = ladder(problem, first)[0]
        found = _best_at(problem, placement, first.main_gpu)
        if found and _is_modest(found, problem.wish):
            return found
        first = others[0]
    cheapest = cheapest_of(problem, first)
    return _best_at(problem, cheapest.placement, first.main_gpu)


def cheapest_of(problem: FitProblem, layout: Layout) -> LoadChoice:
    """All but layers is given up, and of these no more than the GPUs lack room for."""
    steps = ladder(problem, layout)

    def fits(place: Placement) -> bool:
        return _fits_gpus(problem, problem.cheapest(place, layout.main_gpu))

    step = min(bisect_left(steps, True, key=fits), len(steps) - 1)
    return problem.cheapest(steps[step], layout.main_gpu)


def layouts(wish: Wish, budget: Budget) -> tuple[Layout, ...]:
    """One GPU, then all of them in proportion to their room."""
    rooms = [gpu.room_bytes for gpu in budget.gpus]
    if len(rooms) < 2:
        return (Layout((1.0,) * len(rooms), wish.main_gpu),)
    asked = wish.main_gpu if wish.main_gpu in range(len(rooms)) else None
    one = max(range(len(rooms)), key=rooms.__getitem__) if asked is None else asked
    total = sum(rooms) or 1
    spread = Layout(tuple(round(room / total, HUNDREDTHS) for room in rooms), asked)
    alone = Layout(tuple(float(number == one) for number in range(len(rooms))), one)
    return (spread,) if wish.spreads else (alone, spread)


def ladder(problem: FitProblem, layout: Layout) -> list[Placement]:
    """Placements with less and less on the GPUs."""
    if not problem.budget.gpus:
        return [ON_HOST]
    total, asked = problem.layers.total, problem.wish.gpu_layers
    if asked is not None:
        return [Placement(min(asked, total), layout.split)]
    experts = range(1, total) if problem.layers.has_experts else range(0)
    most = total - 1 if problem.layers.has_experts else 0
    return [
        Placement(total, layout.split),
        *(Placement(total, layout.split, host) for host in experts),
        *(Placement(count, layout.split, most) for count in range(total - 1, -1, -1)),
    ]


def is_comfortable(num_ctx: int, best_ctx: int) -> bool:
    """Whether a context is long enough where `best_ctx` tokens would fit an empty machine."""
    return num_ctx >= min(COMFORTABLE_CTX, best_ctx // 2)


def _is_modest(choice: LoadChoice, wish: Wish) -> bool:
    """Whether nothing but context is given up, and that is comfortable."""
    best = wish.kv_types[0], wish.slots[0], wish.drafters[0]
    kept = (choice.kv_type, choice.slots, choice.drafter) == best
    return kept and choice.num_ctx >= min(COMFORTABLE_CTX, wish.most_ctx)


def _fits_gpus(problem: FitProblem, choice: LoadChoice) -> bool:
    parts = zip(problem.budget.gpus, problem.need_of(choice).gpus, strict=False)
    return all(part.total_bytes <= room.room_bytes for room, part in parts)


def _best_at(problem: FitProblem, placement: Placement, main_gpu: int | None) -> LoadChoice | None:
    """The best choice with this placement."""
    least = problem.cheapest(placement, main_gpu)
    if problem.excess(least):
        return None
    candidates = _with_least_context(problem.wish, least)
    return _stretch(problem, next(each for each in candidates if not problem.excess(each)))


def _with_least_context(wish: Wish, least: LoadChoice) -> Iterator[LoadChoice]:
    """All choices with the least context and one placement, the best first."""
    for drafter in wish.drafters:
        for slots in wish.slots:
            for kv_type in wish.kv_types:
                yield replace(least, drafter=drafter, slots=slots, kv_type=kv_type)


def _stretch(problem: FitProblem, least: LoadChoice) -> LoadChoice:
    """The choice with the longest context.

    On the host an automatic context takes at most half of what is left beside the least one: the
    memory is the user's too.
    """
    wish, room = problem.wish, problem.budget.host.room_bytes
    host_limit = (room + problem.host_need(least)) // 2 if wish.is_auto_ctx else room

    def fits(num_ctx: int) -> bool:
        longer = replace(least, num_ctx=num_ctx)
        return not problem.excess(longer) and problem.host_need(longer) <= host_limit

    if wish.most_ctx == least.num_ctx or fits(wish.most_ctx):
        return replace(least, num_ctx=wish.most_ctx)
    steps = range(least.num_ctx // CELL_STEP + 1, -(-wish.most_ctx // CELL_STEP))
    count = bisect_left(steps, True, key=lambda step: not fits(step * CELL_STEP))
    return replace(least, num_ctx=steps[count - 1] * CELL_STEP) if count else least
