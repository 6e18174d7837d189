"""What is given up until a load fits, with sizes that are made up and machines that are values."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from outrider.daemon.runners.budget import Budget, Room
from outrider.daemon.runners.fit import FitProblem, LayerCount, LoadChoice, fit
from outrider.daemon.runners.sentences import (
    HALF,
    concessions_of,
    placement_warning,
    refusal_of,
    summary_of,
)
from outrider.daemon.runners.wish import NO_DRAFTER, DrafterFiles, Wish
from outrider.quant.memory import MemoryEstimate, PartBytes, Placement

pytestmark = pytest.mark.unit

GIB = 1 << 30
LAYERS = 10
DRAFTER = DrafterFiles("/drafter.gguf")
KV_BYTES = {"f16": 2.0, "q8_0": 1.0625, "q4_0": 0.5625}  # of an element
WISH = Wish(4096, 131072, True, ("f16", "q8_0", "q4_0"), (4, 2, 1), (DRAFTER, NO_DRAFTER))


def need_of(choice: LoadChoice) -> MemoryEstimate:
    """A model of ten layers and an output, 1 GiB each, half of a layer experts.

    A token of the context of each slot takes 32 KiB at two bytes per element, and each slot a
    window of 256 MiB; the drafter takes 1 GiB.
    """
    place, gpus = choice.placement, len(choice.placement.split)
    elements = choice.num_ctx * (16 << 10) + choice.slots * (128 << 20)
    cache = int(elements * KV_BYTES[choice.kv_type])
    on_gpu = place.gpu_layers / (LAYERS + 1)
    experts = min(place.host_experts, place.gpu_layers) * GIB // 2
    weights = (LAYERS + 1) * GIB
    drafter = GIB if choice.drafter else 0
    parts = [
        PartBytes(
            weights_bytes=int(share * (on_gpu * weights - experts)),
            cache_bytes=int(share * on_gpu * cache),
            drafter_bytes=int(share * drafter),
        )
        for share in choice.placement.split
    ]
    host_weights = weights - int(on_gpu * weights) + experts
    host = PartBytes(host_weights, cache - int(on_gpu * cache), 0, 0, 0 if gpus else drafter)
    return MemoryEstimate(host, tuple(parts))


def problem(
    *gpus_gib: float, host_gib: float = 64, wish: Wish = WISH, has_experts: bool = False
) -> FitProblem:
    rooms = tuple(Room(f"CUDA{n}", int(size * GIB)) for n, size in enumerate(gpus_gib))
    budget = Budget(Room("CPU", int(host_gib * GIB)), rooms)
    return FitProblem(wish, budget, LayerCount(LAYERS + 1, has_experts), need_of)


def found(asked: FitProblem) -> LoadChoice:
    choice = fit(asked)
    assert choice
    return choice


def short(asked: FitProblem) -> tuple[int, str, int, bool, int]:
    choice = found(asked)
    layers = choice.placement.gpu_layers
    return choice.num_ctx, choice.kv_type, choice.slots, bool(choice.drafter), layers


def test_with_much_memory_nothing_is_given_up() -> None:
    assert short(problem(24)) == (131072, "f16", 4, True, 11)
    assert concessions_of(problem(24), found(problem(24))) == ()
    assert short(problem(host_gib=64)) == (131072, "f16", 4, True, 0)


@pytest.mark.parametrize(
    ("gpu_gib", "expected"),
    [
        (17, (131072, "f16", 4, True, 11)),  # 11 of layers, 1 of the drafter, 1 of slots, 4 of it
        (16.9, (127744, "f16", 4, True, 11)),  # the context shrinks first
        (13.2, (6400, "f16", 4, True, 11)),
        (13.1, (35072, "q8_0", 4, True, 11)),  # then the cache, and the context is long again
        (12.5, (25344, "q4_0", 4, True, 11)),
        (12.3, (18432, "q4_0", 2, True, 11)),  # then slots
        (12.2, (6912, "q4_0", 2, True, 11)),
        (12.15, (9216, "q4_0", 1, True, 11)),
        (12.0, (28672, "q8_0", 4, False, 11)),  # then the drafter, which spares all the others
        (11, (35072, "q8_0", 4, False, 10)),  # then a layer
        (2, (131072, "f16", 4, False, 1)),
    ],
)
def test_the_order_in_which_things_are_given_up(
    gpu_gib: float, expected: tuple[int, str, int, bool, int]
) -> None:
    asked = problem(gpu_gib)
    assert asked.excess(found(asked)) is None
    assert short(asked) == expected


def test_each_concession_says_why() -> None:
    asked = problem(12.25)
    assert concessions_of(asked, found(asked)) == (
        "the context shrinks from 131,072 to 12,544 tokens: 13.3 GiB would be needed on CUDA0, "
        "which has room for 12.2 GiB",
        "the KV cache is q4_0 in place of f16: 12.3 GiB would be needed on CUDA0, which has room "
        "for 12.2 GiB",
        "2 slots in place of 4: 12.3 GiB would be needed on CUDA0, which has room for 12.2 GiB",
    )
    asked = problem(11)
    assert concessions_of(asked, found(asked))[-2:] == (
        "no drafter: 11.1 GiB would be needed on CUDA0, which has room for 11.0 GiB",
        "1 of 11 layers is on the CPU: 11.1 GiB would be needed on CUDA0, which has room for "
        "11.0 GiB",
    )


def test_what_is_asked_for_is_kept() -> None:
    wish = replace(WISH, least_ctx=30000, most_ctx=30000, is_auto_ctx=False)
    assert short(problem(24, wish=wish)) == (30000, "f16", 4, True, 11)
    assert short(problem(13.1, wish=wish)) == (30000, "q8_0", 4, True, 11)
    wish = replace(wish, kv_types=("f16",), slots=(4,), drafters=(DRAFTER,))
    assert short(problem(13.1, wish=wish)) == (30000, "f16", 4, True, 10)
    assert short(problem(24, wish=replace(wish, gpu_layers=3))) == (30000, "f16", 4, True, 3)
    assert fit(problem(4, wish=replace(wish, gpu_layers=5))) is None


def test_the_experts_go_to_the_host_before_whole_layers() -> None:
    def placed(gpu_gib: float) -> Placement:
        return found(problem(gpu_gib, has_experts=True)).placement

    assert placed(24) == Placement(11, (1.0,))
    assert placed(10) == Placement(11, (1.0,), 3)
    assert placed(6.2) == Placement(11, (1.0,), 10)
    assert placed(5).gpu_layers < 11
    assert placed(5).host_experts == 10
    assert found(problem(10, has_experts=True)).drafter == NO_DRAFTER


def test_layers_on_the_cpu_are_a_warning() -> None:
    def warning(gpu_gib: float, wish: Wish = WISH, *, has_experts: bool = False) -> str:
        asked = problem(gpu_gib, wish=wish, has_experts=has_experts)
        return placement_warning(asked, found(asked))

    assert warning(24) == ""
    assert warning(10, has_experts=True).startswith("the experts of 3 of 10 layers are on the CPU:")
    asks = "1 of 11 layers is on the CPU, as num_gpu 10 asks for"
    assert warning(24, replace(WISH, gpu_layers=10)) == asks
    assert warning(24, replace(WISH, gpu_layers=11)) == ""


def test_an_automatic_context_takes_half_of_what_the_host_has_left() -> None:
    asked = problem(host_gib=14)
    choice = found(asked)
    least = asked.host_need(replace(choice, num_ctx=4096))
    left = 14 * GIB - least
    assert choice.num_ctx < WISH.most_ctx
    assert left * 0.49 < asked.host_need(choice) - least <= left / 2
    assert concessions_of(asked, choice)[0].endswith(HALF)
    long = replace(WISH, least_ctx=131072, is_auto_ctx=False)
    assert found(problem(host_gib=18, wish=long)).num_ctx == 131072


def test_the_memory_of_an_integrated_gpu_is_the_hosts() -> None:
    wish = replace(WISH, drafters=(NO_DRAFTER,))
    shared = Budget(Room("CPU", 12 * GIB), (Room("Vulkan0", 24 * GIB, is_integrated=True),))
    asked = replace(problem(24, wish=wish), budget=shared)
    choice = found(asked)
    assert asked.host_need(choice) == need_of(choice).total_bytes <= 12 * GIB
    assert choice.num_ctx < WISH.most_ctx


def test_one_gpu_is_enough_if_the_model_fits_it() -> None:
    assert found(problem(20, 24)).placement.split == (0.0, 1.0)
    assert found(problem(20, 24)).main_gpu == 1
    asked = problem(20, 24, wish=replace(WISH, main_gpu=0))
    assert found(asked).placement.split == (1.0, 0.0)
    assert found(problem(20, 24, wish=replace(WISH, spreads=True))).placement.split == (0.45, 0.55)


def test_a_model_that_fits_no_gpu_is_split_in_proportion_to_their_room() -> None:
    choice = found(problem(6, 18))
    assert choice.placement.split == (0.0, 1.0), "18 GiB suffice for all of it"
    choice = found(problem(4, 12))
    assert choice.placement == Placement(11, (0.25, 0.75))
    assert (choice.kv_type, choice.drafter) == ("f16", DRAFTER)


def test_one_line_says_how_a_model_is_loaded() -> None:
    asked = problem(11)
    choice = found(asked)
    assert summary_of(asked, choice, need_of(choice)) == (
        "4 slots, 35,072 tokens, q8_0 KV, 10 of 11 layers on CUDA0; "
        "1.1 GiB of 64.0 GiB on CPU; 11.0 GiB of 11.0 GiB on CUDA0"
    )
    asked = problem(24)
    choice = found(asked)
    line = summary_of(asked, choice, need_of(choice))
    assert line == (
        "4 slots, 131,072 tokens, f16 KV, a drafter, all 11 layers on CUDA0; "
        "17.0 GiB of 24.0 GiB on CUDA0"
    )


def test_a_refusal_names_the_nearest_plan_that_would_fit() -> None:
    wish = replace(WISH, kv_types=("f16",), slots=(4,), drafters=(NO_DRAFTER,))
    long = replace(wish, least_ctx=65536, most_ctx=65536, is_auto_ctx=False)
    assert fit(problem(host_gib=11.5, wish=long)) is None
    assert refusal_of(problem(host_gib=11.5, wish=long), "big") == (
        "big needs at least 14.0 GiB with num_ctx 65536 on CPU, which has room for 11.5 GiB; "
        "num_ctx 25344 with q4_0 KV would fit"
    )
    assert refusal_of(problem(host_gib=12.5, wish=long), "big").endswith(
        "; num_ctx 16384 would fit"
    )
    assert refusal_of(problem(4, wish=replace(WISH, gpu_layers=9)), "big").endswith(
        "; num_ctx 87296 with no drafter and num_gpu 3 would fit"
    )


@pytest.mark.parametrize("host_gib", [11.3, 11.6, 12.1, 12.5])
def test_the_nearest_plan_keeps_most_of_a_long_context_and_really_fits(host_gib: float) -> None:
    long = replace(WISH, least_ctx=1 << 18, most_ctx=1 << 18, is_auto_ctx=False)
    asked = problem(host_gib=host_gib, wish=long)
    assert fit(asked) is None
    words = refusal_of(asked, "big").partition("; ")[2]
    named = re.fullmatch(r"num_ctx (\d+) with q4_0 KV, (\d) slots? and no drafter would fit", words)
    assert named, words
    num_ctx, slots = int(named[1]), int(named[2])
    nearer = replace(long, least_ctx=num_ctx, most_ctx=num_ctx)
    assert fit(replace(asked, wish=nearer)) == LoadChoice(num_ctx, "q4_0", slots, NO_DRAFTER)
    much = num_ctx + (1 << 18) // 16 + 256
    assert fit(replace(asked, wish=replace(long, least_ctx=much, most_ctx=much))) is None


def test_all_layers_on_the_cpu_are_called_all() -> None:
    asked = problem(0.5)
    assert placement_warning(asked, found(asked)).startswith("all 11 layers are on the CPU: ")


def test_a_model_whose_weights_do_not_fit_may_be_mapped() -> None:
    asked = problem(host_gib=10)
    assert fit(asked) is None
    text = refusal_of(asked, "big")
    assert "no context of it fits; a smaller model or quantisation may, and with the option" in text
    assert "use_mmap" in text
    mapped = replace(asked, maps_weights=True)
    assert found(mapped).num_ctx == 131072
    beside = refusal_of(problem(4, host_gib=2), "big")
    assert beside.startswith(
        "big needs at least 8.1 GiB with num_ctx 4096 on CPU (of 11.1 GiB in all)"
    )
    assert "use_mmap" not in beside
