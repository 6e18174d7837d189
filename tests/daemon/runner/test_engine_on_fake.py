"""The engine without weights: a text depends on its request alone, whatever happens around it."""

from __future__ import annotations

import json
import random
import re
from array import array

import msgspec
import numpy as np
import pytest
from fake_llama import (
    NUM_TOKENS,
    FakeContext,
    FakeLoaded,
    FakeModel,
    MakeController,
    open_fake_engine,
    plain_decoding,
    texts_alone,
)
from harness import GREEDY, EngineHarness, text_request
from lab import known
from outrider.daemon.chat.conversation import REQUIRED, Conversation, Message, Tool, ToolCall
from outrider.daemon.chat.format import ChatFormat
from outrider.daemon.errors import BadRequest, DecodeFailed
from outrider.daemon.protocol import Limits, Load, Sampling, Submit
from outrider.daemon.runner.kv.prefix_cache import TrimMode
from outrider.daemon.runner.scheduler import MIN_SHARED_TOKENS
from outrider.daemon.runner.sequence import cut_middle
from outrider.daemon.runner.speculation.controller import SpeculationController
from outrider.daemon.runner.speculation.drafters.drafter import Drafter
from outrider.daemon.runner.speculation.drafters.model import ModelDrafter
from outrider.daemon.runner.speculation.drafters.ngram import NgramDrafter
from outrider.daemon.runner.speculation.profile import SpeculationProfile

pytestmark = pytest.mark.unit

EVERY_TRIM_MODE = pytest.mark.parametrize("trim_mode", TrimMode)
DRAFT_LENGTH = 4
SYSTEM = "Answer every question as well as you can, and in full sentences. " * 2
SCHEMA = '{"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}'


def hot(seed: int) -> Sampling:
    return Sampling(temperature=1.2, top_k=0, top_p=1.0, seed=seed)


def requests(count: int, num_predict: int = 40) -> list[Submit]:
    """Of different prompts; every second one is greedy."""
    return [
        text_request(
            i, f"{i} is the number " * 2, num_predict, sampling=hot(i) if i % 2 else GREEDY
        )
        for i in range(count)
    ]


def speculating(*drafters: Drafter, loaded: FakeLoaded) -> SpeculationController:
    """Drafts of DRAFT_LENGTH tokens whenever a drafter has any."""
    profile = SpeculationProfile(verify=known({1: 1.0, 64: 2.0}), draft=known({1: 0.1, 8: 0.2}))
    context = loaded.context
    equal_rows = loaded.model.is_recurrent
    return SpeculationController(
        drafters, profile, fixed=DRAFT_LENGTH, max_drafts=context.max_drafts, equal_rows=equal_rows
    )


def with_ngram(loaded: FakeLoaded, _load: Load) -> SpeculationController:
    return speculating(NgramDrafter(), loaded=loaded)


def with_model(loaded: FakeLoaded, load: Load) -> SpeculationController:
    """A drafter that disagrees with the target in 30 of 100 contexts."""
    context = FakeContext(FakeModel(error_rate=0.3), load, is_target=False)
    return speculating(ModelDrafter(context, 128, load.slots), loaded=loaded)


def peek(harness: EngineHarness) -> FakeContext:
    context = harness.loaded.context
    assert isinstance(context, FakeContext)
    return context


@EVERY_TRIM_MODE
@pytest.mark.parametrize("batch", [8, 128])
def test_eight_requests_over_four_slots_give_what_each_gives_alone(
    trim_mode: TrimMode, batch: int
) -> None:
    model = FakeModel(trim_mode)
    with open_fake_engine(model, batch=batch) as harness:
        together = harness.run(*requests(8))
    alone = texts_alone(model, *requests(8))
    assert together == alone
    assert len(set(alone.values())) > 4, "the prompts must matter"


def test_all_slots_advance_in_the_same_step() -> None:
    with open_fake_engine(FakeModel()) as harness:
        harness.run(*[text_request(i, "hello", 30) for i in range(4)])
        assert harness.num_turns <= 31  # one step for the prompts, one for each further token


def test_another_last_token_of_the_prompt_or_an_older_one_changes_the_text() -> None:
    """The fake must notice a wrong cell, or these tests could not fail."""
    texts = texts_alone(
        FakeModel(), *[text_request(i, f"{x}bcd{y}", 60) for i, (x, y) in enumerate(["ae", "az"])]
    )
    assert texts[0] != texts[1]
    older = texts_alone(FakeModel(), text_request(2, "zbcde", 60))
    assert older[2] != texts[0]


@EVERY_TRIM_MODE
def test_a_repeated_prompt_computes_one_token_and_gives_the_same_text(trim_mode: TrimMode) -> None:
    with open_fake_engine(FakeModel(trim_mode)) as harness:
        for i in range(3):
            harness.run(text_request(i, SYSTEM, 30, sampling=hot(5)))
        texts, done = harness.texts, harness.done
    assert texts[0] == texts[1] == texts[2]
    assert [done[i].cached_tokens for i in range(3)] == [0, len(SYSTEM) - 1, len(SYSTEM) - 1]


@EVERY_TRIM_MODE
def test_a_conversation_goes_on_from_what_is_cached(trim_mode: TrimMode) -> None:
    model = FakeModel(trim_mode)
    with open_fake_engine(model) as harness:
        first = harness.run(text_request(0, SYSTEM, 30))[0]
        longer = text_request(1, f"{SYSTEM}{first} And then?", 30)
        text = harness.run(longer)[1]
        assert harness.done[1].cached_tokens >= len(SYSTEM) - 1
    assert text == texts_alone(model, longer)[1]


@EVERY_TRIM_MODE
def test_a_prefix_that_is_asked_for_at_once_is_computed_once(trim_mode: TrimMode) -> None:
    model = FakeModel(trim_mode)
    asked = [text_request(i, f"{SYSTEM}{letter}, please", 20) for i, letter in enumerate("abcd")]
    with open_fake_engine(model) as harness:
        texts = harness.run(*asked)
        reused = [harness.done[i].cached_tokens for i in range(4)]
    assert reused[0] == 0
    assert min(reused[1:]) >= len(SYSTEM) - MIN_SHARED_TOKENS
    assert texts == texts_alone(model, *asked)


@EVERY_TRIM_MODE
@pytest.mark.parametrize("make_controller", [plain_decoding, with_ngram])
def test_preemption_changes_no_text(trim_mode: TrimMode, make_controller: MakeController) -> None:
    model = FakeModel(trim_mode)
    asked = requests(4, 80)
    with open_fake_engine(model, make_controller, num_ctx=256, cells=256) as harness:
        together = harness.run(*asked)
        assert harness.stats[-1].preempted > 0
    assert together == texts_alone(model, *asked)


@EVERY_TRIM_MODE
def test_a_cancelled_request_frees_its_slot_and_disturbs_nobody(trim_mode: TrimMode) -> None:
    model = FakeModel(trim_mode)
    with open_fake_engine(model, slots=2) as harness:
        harness.submit(*requests(3))
        for _ in range(5):
            harness.turn()
        harness.cancel(0)
        texts = harness.finish(3)
        assert harness.done[0].reason == "cancel"
        assert 0 < harness.done[0].eval_tokens <= 5
        assert harness.stats[-1].slots_busy == 0
    alone = texts_alone(model, *requests(3))
    assert [texts[i] for i in (1, 2)] == [alone[1], alone[2]]
    assert alone[0].startswith(texts[0])


@EVERY_TRIM_MODE
@pytest.mark.parametrize("make_controller", [plain_decoding, with_ngram])
def test_an_aborted_step_is_decoded_again(
    trim_mode: TrimMode, make_controller: MakeController
) -> None:
    model = FakeModel(trim_mode)
    with open_fake_engine(model, make_controller) as harness:
        harness.submit(*requests(3))
        for number in range(40):
            if number % 4 == 0:
                peek(harness).abort()
            harness.turn()
        texts = harness.finish(3)
    assert texts == texts_alone(model, *requests(3))


@EVERY_TRIM_MODE
def test_an_abort_leaves_no_corrupt_prefix_behind(trim_mode: TrimMode) -> None:
    model = FakeModel(trim_mode)
    first, second = text_request(0, SYSTEM, 10), text_request(1, "another", 10)
    again = text_request(2, SYSTEM, 30)
    with open_fake_engine(model, host_cache_bytes=0) as harness:
        harness.run(first)
        harness.submit(second)
        peek(harness).abort()
        harness.finish(2)
        text = harness.run(again)[2]
        assert bool(harness.done[2].cached_tokens) is not model.is_recurrent
    assert text == texts_alone(model, again)[2]


@EVERY_TRIM_MODE
def test_a_decode_without_cells_preempts_the_youngest_and_changes_no_text(
    trim_mode: TrimMode,
) -> None:
    model = FakeModel(trim_mode)
    with open_fake_engine(model) as harness:
        harness.submit(*requests(3))
        for _ in range(5):
            harness.turn()
        peek(harness).refuse = 2
        texts = harness.finish(3)
        assert harness.stats[-1].preempted > 0
    assert texts == texts_alone(model, *requests(3))


def test_a_single_sequence_without_cells_is_a_failed_decode() -> None:
    with open_fake_engine(FakeModel()) as harness:
        peek(harness).refuse = 1
        harness.submit(text_request(0, "alone", 5))
        with pytest.raises(DecodeFailed, match="no room"):
            harness.turn()


@EVERY_TRIM_MODE
def test_a_shifted_text_is_that_of_the_kept_tokens(trim_mode: TrimMode) -> None:
    model, num_ctx, prompt = FakeModel(trim_mode), 64, "a story without an end"
    with open_fake_engine(model, num_ctx=num_ctx) as harness:
        text = harness.run(text_request(0, prompt, 150))[0]
        assert harness.done[0].eval_tokens == len(text) == 150
    tokens, expected = array("i", model.tokenize(prompt, add_bos=False)), ""
    while len(expected) < 150:
        token = int(model.logits(tokens).argmax())
        expected += model.piece(token).decode()
        tokens.append(token)
        if len(tokens) >= num_ctx:
            tokens = cut_middle(tokens, Limits().num_keep, num_ctx)
    assert text == expected


def test_a_full_context_ends_the_text_when_shifting_is_forbidden() -> None:
    with open_fake_engine(FakeModel(), num_ctx=64) as harness:
        harness.run(text_request(0, "a story", limits=Limits(num_predict=150, shift=False)))
        done = harness.done[0]
        assert (done.reason, done.prompt_tokens + done.eval_tokens) == ("length", 64)


@pytest.mark.parametrize("num_predict", [0, 1, 17])
def test_num_predict_is_exact(num_predict: int) -> None:
    with open_fake_engine(FakeModel()) as harness:
        text = harness.run(text_request(0, "count", num_predict))[0]
        assert (harness.done[0].eval_tokens, len(text)) == (num_predict, num_predict)
        assert harness.done[0].reason == "length"


@pytest.mark.parametrize("make_controller", [plain_decoding, with_ngram])
def test_a_stop_string_ends_the_text_before_it(make_controller: MakeController) -> None:
    free = texts_alone(FakeModel(), text_request(0, "stop here", 100))[0]
    stop = free[50:53]
    limits = Limits(num_predict=100, stop=(stop,))
    with open_fake_engine(FakeModel(), make_controller) as harness:
        text = harness.run(text_request(0, "stop here", limits=limits))[0]
        assert text == free[: free.index(stop)]
        assert harness.done[0].reason == "stop"


@pytest.mark.parametrize("make_controller", [plain_decoding, with_ngram, with_model])
def test_an_end_token_ends_the_text(make_controller: MakeController) -> None:
    model = FakeModel(ends=True)
    asked = [text_request(i, f"end {i}", 250, sampling=hot(i)) for i in range(8)]
    with open_fake_engine(model, make_controller) as harness:
        texts = harness.run(*asked)
        done = [harness.done[i] for i in range(8)]
    ends = [one.reason == "stop" for one in done]  # the end token counts, and has no text
    assert any(ends)
    assert [len(texts[i]) + ends[i] for i in range(8)] == [one.eval_tokens for one in done]
    assert texts == texts_alone(model, *asked)


def test_a_seed_fixes_the_text_and_no_seed_does_not() -> None:
    with open_fake_engine(FakeModel()) as harness:
        texts = harness.run(
            *[text_request(i, "again", 30, sampling=hot(s)) for i, s in enumerate((7, 7, 8, -1))]
        )
    assert texts[0] == texts[1]
    assert len({texts[0], texts[2], texts[3]}) == 3


@EVERY_TRIM_MODE
@pytest.mark.parametrize("make_controller", [with_ngram, with_model])
def test_drafts_are_accepted_and_rejected_and_change_no_text(
    trim_mode: TrimMode, make_controller: MakeController
) -> None:
    model = FakeModel(trim_mode)
    asked = requests(4, 120)
    with open_fake_engine(model, make_controller) as harness:
        together = harness.run(*asked)
        stats = harness.stats[-1]
        reports = [done.speculation_report for done in harness.done.values()]
    assert together == texts_alone(model, *asked)
    assert 0 < stats.accepted_tokens < stats.drafted_tokens
    assert sum(report.accepted for report in reports if report) == stats.accepted_tokens
    assert stats.steps < stats.decoded_tokens
    (drafter,) = stats.drafters
    assert (drafter.drafts, drafter.drafted) == (stats.drafts, stats.drafted_tokens)
    assert drafter.accepted == stats.accepted_tokens
    assert 0 < drafter.took_ns <= stats.speculated_ns
    assert sum(stats.gap_counts) == stats.decoded_tokens - len(asked)
    assert stats.detail, "an engine that falls idle reports what it has measured"
    (counts,) = stats.detail.drafters
    assert sum(counts.verified) >= sum(counts.accepted) == stats.accepted_tokens
    assert counts.verified[0] == stats.drafts
    assert [cost.rows for cost in stats.detail.verify_costs][:1] == [1]


def test_no_more_is_drafted_than_outputs_and_rows_allow() -> None:
    """FakeContext asserts the number of outputs; a batch has no more than its rows."""
    asked = requests(4, 150)
    with open_fake_engine(FakeModel(), with_ngram, batch=8) as harness:
        assert harness.run(*asked) == texts_alone(FakeModel(), *asked)
        assert harness.stats[-1].drafted_tokens > 0


def test_a_schema_is_followed_beside_others_and_with_drafts() -> None:
    free = text_request(9, "Who is it?", 30)
    bound = [text_request(i, "Who?", 300, sampling=hot(i), schema=SCHEMA) for i in range(3)]
    with open_fake_engine(FakeModel(ends=True), with_ngram) as harness:
        texts = harness.run(*bound, free)
    assert all(json.loads(texts[i])["a"] in ("x", "y") for i in range(3))
    assert texts[9] == texts_alone(FakeModel(ends=True), free)[9]


def test_logprobs_are_those_of_the_row() -> None:
    model = FakeModel()
    with open_fake_engine(model) as harness:
        text = harness.run(text_request(0, "tell me", 20, num_logprobs=2))[0]
        told = harness.logprobs(0)
    assert b"".join(entry.piece for entry in told).decode() == text
    row = model.logits(model.tokenize("tell me", add_bos=False))[: NUM_TOKENS - 1].tolist()
    assert told[0].top[0].logprob - told[0].top[1].logprob == pytest.approx(
        sorted(row)[-1] - sorted(row)[-2], abs=1e-4
    )


@EVERY_TRIM_MODE
def test_the_scores_of_words_are_those_of_the_row_after_the_prompt(trim_mode: TrimMode) -> None:
    """Whatever else runs, how the token is sampled, and whether there are drafts."""
    model, words = FakeModel(trim_mode), ("A", "b", "?")
    scored = [
        msgspec.structs.replace(
            text_request(
                i, f"{SYSTEM}{i}", 1 if i % 2 else 9, sampling=hot(i) if i % 3 else GREEDY
            ),
            scored=words,
        )
        for i in range(6)
    ]
    with open_fake_engine(model, with_ngram) as harness:
        texts = harness.run(*scored, text_request(9, SYSTEM, 20, sampling=hot(9)))
        done = harness.done
    plain = [msgspec.structs.replace(request, scored=()) for request in scored]
    alone = texts_alone(model, *plain)
    assert {i: texts[i] for i in alone} == alone
    for request in scored:
        row = model.logits(model.tokenize(f"{SYSTEM}{request.id}", add_bos=False))
        shares = np.exp(row.astype(np.float64)) / np.exp(row.astype(np.float64)).sum()
        expected = [shares[model.tokenize(word, add_bos=False)[0]] for word in words]
        assert np.exp(done[request.id].scores) == pytest.approx(expected, rel=1e-6)
    assert done[0].scores  # of a text that spans several steps


def test_a_word_that_is_no_token_cannot_be_scored() -> None:
    request = msgspec.structs.replace(text_request(0, "A or AB?"), scored=("A", "AB"))
    told = pytest.raises(BadRequest, match=re.escape('no single token of this model is "AB"'))
    with open_fake_engine(FakeModel()) as harness, told:
        harness.submit(request)


@EVERY_TRIM_MODE
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_a_text_is_what_it_is_alone(trim_mode: TrimMode, seed: int) -> None:
    rng, model = random.Random(f"{trim_mode} {seed}"), FakeModel(trim_mode, ends=True)
    asked = [random_request(rng, i) for i in range(12)]
    coming, cancelled = asked[:], set[int]()
    make_controller = rng.choice((with_ngram, with_model))
    changes = {"num_ctx": 256, "cells": rng.randint(256, 700), "batch": rng.choice((8, 32, 128))}
    with open_fake_engine(model, make_controller, **changes) as harness:
        while len(harness.done) < len(asked):
            busy = {r.id for r in asked if r not in coming} - harness.done.keys()
            if coming and (not busy or rng.random() < 0.3):
                harness.submit(coming.pop())
            if len(busy) > 1 and rng.random() < 0.02:
                cancelled.add(victim := rng.choice(sorted(busy)))
                harness.cancel(victim)
            if rng.random() < 0.03:
                peek(harness).abort()
            harness.turn()
        texts = harness.texts
    kept = [request for request in asked if request.id not in cancelled]
    alone = texts_alone(model, *kept, num_ctx=256)
    assert {i: texts[i] for i in alone} == alone


def random_request(rng: random.Random, number: int) -> Submit:
    prompt = f"{SYSTEM[: rng.randrange(130)]} {rng.randrange(3)}"
    sampling = rng.choice((GREEDY, hot(number)))
    return text_request(number, prompt, rng.randint(0, 100), sampling=sampling)


TOOLS = tuple(
    Tool({"type": "function", "function": {"name": name, "parameters": parameters}})
    for name, parameters in (
        ("look", {"type": "object", "properties": {"at": {"enum": ["sky", "sea"]}}}),
        ("wait", {"type": "object", "properties": {"s": {"enum": [1, 2]}}, "required": ["s"]}),
    )
)
Answer = tuple[str, str, tuple[ToolCall, ...], str]  # content, thinking, calls, reason


def chats(count: int) -> list[Submit]:
    """Free answers with tools, schemas after a thought, and calls forced by a grammar or as JSON;
    every second one is greedy."""
    kinds: list[tuple[str, str, dict[str, object]]] = [
        ("qwen3-thinking", "", {"think": True, "tools": TOOLS}),
        ("qwen3-thinking", SCHEMA, {"think": True}),
        ("hermes", "", {"tools": TOOLS, "tool_choice": REQUIRED}),
        ("mistral", "", {"think": False, "tools": TOOLS, "tool_choice": "wait"}),
        ("thinking", SCHEMA, {"think": True, "messages": (Message("assistant", "<think>"),)}),
    ]
    asked = []
    for i in range(count):
        parser, schema, facts = kinds[i % len(kinds)]
        chat = Conversation((Message("user", f"{i} is the number " * 3),))
        submit = Submit(
            id=i,
            prompt=msgspec.structs.replace(chat, **facts),
            sampling=hot(i) if i % 2 else GREEDY,
            limits=Limits(num_predict=300),
            format=ChatFormat(parser=parser),
            schema=schema,
        )
        asked.append(submit)
    return asked


def answers(harness: EngineHarness, *asked: Submit) -> dict[int, Answer]:
    harness.run(*asked)
    found: dict[int, Answer] = {}
    for id_, done in harness.done.items():
        deltas = [delta for delta in harness.deltas if delta.id == id_]
        calls = tuple(call for delta in deltas for call in delta.tool_calls)
        thinking = "".join(delta.thinking for delta in deltas)
        found[id_] = ("".join(delta.text for delta in deltas), thinking, calls, done.reason)
    return found


@EVERY_TRIM_MODE
@pytest.mark.parametrize("make_controller", [plain_decoding, with_ngram, with_model])
def test_tools_thoughts_and_grammars_are_the_same_with_drafts(
    make_controller: MakeController, trim_mode: TrimMode
) -> None:
    model, asked = FakeModel(trim_mode, ends=True), chats(10)
    alone: dict[int, Answer] = {}
    for one in asked:
        with open_fake_engine(model) as harness:
            alone |= answers(harness, one)
    with open_fake_engine(model, make_controller) as harness:
        together = answers(harness, *asked)
        num_drafted = harness.engine._stats.drafted_tokens
    assert together == alone
    assert num_drafted > 0 or make_controller is not with_model
    assert [call.name for id_ in (3, 8) for call in alone[id_][2]] == ["wait", "wait"]
    assert {call.name for id_ in (2, 7) for call in alone[id_][2]} <= {"look", "wait"}
    assert all(alone[id_][2] for id_ in (2, 7))
    answered = [alone[id_][0] for id_ in (1, 6) if not alone[id_][1]]  # some only think
    assert [json.loads(text)["a"] in "xy" for text in answered] == [True] * len(answered) != []


@EVERY_TRIM_MODE
@pytest.mark.parametrize("make_controller", [plain_decoding, with_ngram])
def test_a_held_stream_gives_its_slot_to_others_and_goes_on_where_it_was(
    trim_mode: TrimMode, make_controller: MakeController
) -> None:
    model = FakeModel(trim_mode)
    slow, quick = requests(4, 80), [text_request(9, "quick", 20)]
    with open_fake_engine(model, make_controller, num_ctx=256) as harness:
        harness.submit(*slow)
        for _ in range(5):
            harness.turn()
        for request in slow:
            harness.hold(request.id, is_held=True)
            harness.hold(request.id, is_held=True)
        texts = dict(harness.texts)
        harness.run(*quick)
        assert {id_: text for id_, text in harness.texts.items() if id_ != 9} == texts
        assert harness.engine.is_idle
        for request in slow:
            harness.hold(request.id, is_held=False)
            harness.hold(request.id, is_held=False)
        together = harness.finish(5)
    assert together == texts_alone(model, *slow, *quick)


@EVERY_TRIM_MODE
def test_a_held_stream_can_be_cancelled(trim_mode: TrimMode) -> None:
    with open_fake_engine(FakeModel(trim_mode)) as harness:
        harness.submit(*requests(6))
        harness.turn()
        for number in (0, 5, 77):  # one that runs, one that waits, and one that is not there
            harness.hold(number, is_held=True)
            harness.cancel(number)
            harness.hold(number, is_held=False)
        harness.finish(6)
        assert [harness.done[number].reason for number in (0, 5)] == ["cancel", "cancel"]
        assert {harness.done[number].reason for number in range(1, 5)} == {"length"}
