"""The engine on a real (tiny, F32) model: whatever happens around a request, its text stays."""

from __future__ import annotations

import json
import random
import threading
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from engines import open_engine, run_alone
from harness import GREEDY, chat_request, load_spec, text_request
from numpy.typing import NDArray
from outrider.daemon.chat.parse.parser import ContentParser, Parsed
from outrider.daemon.errors import BadRequest, DecodeFailed, InvalidFormat, LoadFailed
from outrider.daemon.protocol import Limits, Sampling, Submit
from outrider.daemon.runner import engine
from outrider.daemon.runner.llama.loading import load_model
from outrider.daemon.runner.sampling.constraint import Constraint
from outrider.daemon.runner.sampling.grammar import Grammar
from tiny import write_llama
from tiny_gemma import write_gemma3, write_gemma4
from tiny_recurrent import write_mamba, write_qwen35

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore:llama_token_get_attr"),
]  # llguidance calls it
MODELS: dict[str, Callable[[Path], Path]] = {
    "llama": lambda path: write_llama(path, seed=1),
    "gemma3": write_gemma3,
    "gemma4": write_gemma4,
    "qwen35": write_qwen35,
    "mamba": write_mamba,
}
SYSTEM = "Answer every question of the user as well as you can, and in full sentences. " * 3
PERSON = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "kind": {"enum": ["cat", "dog"]},
        },
        "required": ["name", "kind"],
        "additionalProperties": False,
    }
)

PROMPTS = [
    f"{word} is number {i} of the eight" for i, word in enumerate(["one", "two", "six", "ten"] * 2)
]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf", seed=1)


@pytest.fixture(scope="module", params=MODELS)
def any_gguf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each kind of memory: plain, sliding windows, hybrid and recurrent."""
    return MODELS[request.param](tmp_path_factory.mktemp("gguf") / f"{request.param}.gguf")


def hot(seed: int) -> Sampling:
    return Sampling(temperature=1.2, top_k=0, top_p=1.0, seed=seed)


def test_eight_requests_over_four_slots_give_what_each_gives_alone(any_gguf: Path) -> None:
    requests = [text_request(i, prompt, 40) for i, prompt in enumerate(PROMPTS)]
    with open_engine(load_spec(any_gguf)) as harness:
        together = harness.run(*requests)
    alone = run_alone(load_spec(any_gguf), requests)
    assert together == alone
    assert len(set(alone.values())) > len(PROMPTS) / 2, "the prompts must matter"


def test_all_slots_advance_in_the_same_step(gguf: Path) -> None:
    with open_engine(load_spec(gguf)) as harness:
        harness.run(*[text_request(i, "hello", 30) for i in range(4)])
        # one step for the four prompts, then one for each further token of all four
        assert harness.num_turns <= 31


def test_the_batch_size_does_not_change_the_text(gguf: Path) -> None:
    request = text_request(0, "a prompt that takes several chunks " * 8, 30)
    texts = {run_alone(load_spec(gguf, batch=batch), [request])[0] for batch in (8, 33, 128)}
    assert len(texts) == 1


def test_a_full_pool_makes_the_youngest_wait_and_changes_no_text(gguf: Path) -> None:
    requests = [text_request(i, prompt * 4, 60) for i, prompt in enumerate(PROMPTS[:4])]
    tight = load_spec(gguf, cells=512)
    with open_engine(tight) as harness:
        together = harness.run(*requests)
    assert together == run_alone(load_spec(gguf), requests)


def test_a_cancelled_request_frees_its_slot_and_disturbs_nobody(any_gguf: Path) -> None:
    requests = [text_request(i, PROMPTS[i], 60) for i in range(3)]
    with open_engine(load_spec(any_gguf, slots=2, cells=1024)) as harness:
        harness.submit(*requests)
        for _ in range(5):
            harness.turn()
        harness.cancel(0)
        texts = harness.finish(3)
        assert harness.done[0].reason == "cancel"
        assert harness.done[0].eval_tokens < 10
    alone = run_alone(load_spec(any_gguf), requests[1:])
    assert {i: texts[i] for i in (1, 2)} == alone


def test_a_long_prompt_is_cut_short_by_a_cancel_and_the_others_go_on(gguf: Path) -> None:
    requests = [text_request(0, "stay " * 5, 40), text_request(1, "go " * 150, 5)]
    with open_engine(load_spec(gguf, num_ctx=1024)) as harness:
        harness.submit(*requests)
        stop = threading.Timer(0.005, lambda: harness.cancel(1))
        stop.start()
        texts = harness.finish(2)
        stop.join()
    assert texts[0] == run_alone(load_spec(gguf), requests[:1])[0]


def test_an_aborted_step_is_decoded_again(any_gguf: Path) -> None:
    requests = [text_request(0, "first", 20), text_request(1, "second " * 20, 20)]
    with open_engine(load_spec(any_gguf)) as harness:
        harness.submit(*requests)
        for _ in range(4):
            harness.loaded.context.abort()
            harness.turn()
        texts = harness.finish(2)
    assert texts == run_alone(load_spec(any_gguf), requests)


def test_a_seed_fixes_the_text_and_no_seed_does_not(gguf: Path) -> None:
    hot = {seed: Sampling(temperature=1.5, seed=seed) for seed in (7, 8, -1)}
    with open_engine(load_spec(gguf)) as harness:
        texts = harness.run(
            text_request(0, "again", 30, sampling=hot[7]),
            text_request(1, "again", 30, sampling=hot[7]),
            text_request(2, "again", 30, sampling=hot[8]),
            text_request(3, "again", 30, sampling=hot[-1]),
        )
    assert texts[0] == texts[1]
    assert len({texts[0], texts[2], texts[3]}) == 3


def test_a_penalty_sees_the_prompt(gguf: Path) -> None:
    loud = Sampling(temperature=0.0, repeat_penalty=3.0, repeat_last_n=-1)
    plain, penalised = (
        run_alone(load_spec(gguf), [text_request(0, "aaaa bbbb", 30, sampling=s)])[0]
        for s in (GREEDY, loud)
    )
    assert plain != penalised


@pytest.mark.parametrize(("frame_ns", "count"), [(10**15, 1), (0, 19)])
def test_what_comes_between_two_frames_is_told_together(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, frame_ns: int, count: int
) -> None:
    monkeypatch.setattr(engine, "FLUSH_NS", frame_ns)
    requests = [text_request(0, "count", 20, num_logprobs=0), text_request(1, "others", 20)]
    with open_engine(load_spec(gguf)) as harness:
        texts = harness.run(*requests)
        told = [delta for delta in harness.deltas if delta.id == 0 and not delta.done]
        assert len(told) == count
        assert len(told[0].logprobs) == 1
        assert len(harness.logprobs(0)) == 20
    assert texts == run_alone(load_spec(gguf), requests)


@pytest.mark.parametrize(("num_predict", "count"), [(0, 0), (1, 1), (17, 17)])
def test_num_predict_is_exact(gguf: Path, num_predict: int, count: int) -> None:
    with open_engine(load_spec(gguf)) as harness:
        harness.run(text_request(0, "count", num_predict))
        assert harness.done[0].eval_tokens == count
        assert harness.done[0].reason == "length"


def test_a_stop_string_ends_the_text_before_it(gguf: Path) -> None:
    free = run_alone(load_spec(gguf), [text_request(0, "stop here", 30)])[0]
    stop = free[10:13]
    limits = Limits(num_predict=30, stop=(stop,))
    with open_engine(load_spec(gguf)) as harness:
        text = harness.run(text_request(0, "stop here", limits=limits))[0]
        assert text == free[: free.index(stop)]
        assert harness.done[0].reason == "stop"


def test_a_full_context_shifts_and_goes_on(any_gguf: Path) -> None:
    with open_engine(load_spec(any_gguf, num_ctx=64)) as harness:
        harness.run(text_request(0, "a story without an end", 150))
        assert harness.done[0].eval_tokens == 150


def test_a_full_context_ends_the_text_when_shifting_is_forbidden(gguf: Path) -> None:
    limits = Limits(num_predict=150, shift=False)
    with open_engine(load_spec(gguf, num_ctx=64)) as harness:
        harness.run(text_request(0, "a story", limits=limits))
        done = harness.done[0]
        assert done.reason == "length"
        assert done.prompt_tokens + done.eval_tokens == 64


def test_a_shifted_text_is_what_the_model_says_to_the_kept_tokens(gguf: Path) -> None:
    load = load_spec(gguf, num_ctx=64)
    with open_engine(load) as harness:
        whole = harness.run(text_request(0, "x" * 40, 60))[0]
        sequence = harness.input.prepare(text_request(1, "x" * 40))
        tokens = harness.loaded.model.tokenize("x" * 40 + whole, add_bos=False)
        sequence.tokens = array("i", tokens[:64])
        sequence.shift()
        kept, expected = sequence.tokens, tokens[64:69]
        pieces = [harness.loaded.model.piece(token).decode() for token in (*kept, *expected)]
    text = run_alone(load, [text_request(2, "".join(pieces[: len(kept)]), 5)])[2]
    assert text == "".join(pieces[len(kept) :])


def test_a_prompt_that_is_too_long_is_cut_or_refused(gguf: Path) -> None:
    with open_engine(load_spec(gguf, num_ctx=64)) as harness:
        sequence = harness.input.prepare(text_request(0, "y" * 500))
        assert len(sequence.tokens) == 64 - (64 - 4) // 2
        assert sequence.num_cut == len(harness.loaded.model.tokenize("y" * 500, add_bos=False)) - 34
        for limits in (Limits(truncate=False), Limits(shift=False)):
            with pytest.raises(BadRequest, match="longer than the context length"):
                harness.input.prepare(text_request(0, "y" * 500, limits=limits))


def test_the_oldest_messages_are_dropped_but_never_the_last(gguf: Path) -> None:
    with open_engine(load_spec(gguf, num_ctx=128)) as harness:
        text, _ = harness.input.render(
            chat_request(0, "old" * 20, "older" * 9, "last words", limits=Limits())
        )
    assert "last words" in text
    assert "old" * 20 not in text


def test_a_missing_or_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 100)
    for path in (broken, tmp_path / "missing.gguf"):
        with pytest.raises(LoadFailed, match=path.name):
            load_model(load_spec(path), lambda _fraction: None)


def test_a_repeated_prompt_computes_one_token_and_gives_the_same_text(any_gguf: Path) -> None:
    requests = [text_request(i, SYSTEM, 30, sampling=hot(5)) for i in range(3)]
    with open_engine(load_spec(any_gguf)) as harness:
        for request in requests:
            harness.run(request)
        texts, done = harness.texts, harness.done
    assert len(texts[0]) >= 20
    assert texts[0] == texts[1] == texts[2]
    num_prompt = done[0].prompt_tokens
    assert [done[i].cached_tokens for i in range(3)] == [0, num_prompt - 1, num_prompt - 1]


def test_a_conversation_goes_on_from_what_is_cached(any_gguf: Path) -> None:
    with open_engine(load_spec(any_gguf)) as harness:
        first = harness.run(text_request(0, SYSTEM, 30))[0]
        longer = text_request(1, SYSTEM + first + " And then?", 30)
        text = harness.run(longer)[1]
        done = harness.done
    assert done[1].cached_tokens >= done[0].prompt_tokens - 1
    assert text == run_alone(load_spec(any_gguf), [longer])[1]


def test_a_prefix_that_is_asked_for_at_once_is_computed_once(any_gguf: Path) -> None:
    requests = [text_request(i, f"{SYSTEM}{word}, please", 20) for i, word in enumerate("abcd")]
    with open_engine(load_spec(any_gguf)) as harness:
        texts = harness.run(*requests)
        num_shared = len(harness.loaded.model.tokenize(SYSTEM, add_bos=False))
        reused = [harness.done[i].cached_tokens for i in range(4)]
    assert reused[0] == 0
    assert min(reused[1:]) >= num_shared
    assert texts == run_alone(load_spec(any_gguf), requests)


def test_a_seed_gives_one_text_whatever_is_around_it(any_gguf: Path) -> None:
    request = text_request(0, f"{SYSTEM}Now!", 40, sampling=hot(9))
    others = [text_request(i, PROMPTS[i] * 3, 40, sampling=hot(i)) for i in range(1, 4)]
    texts = {run_alone(load_spec(any_gguf, batch=batch), [request])[0] for batch in (32, 128)}
    with open_engine(load_spec(any_gguf)) as harness:
        texts.add(harness.run(*others, request)[0])
        warm = text_request(4, f"{SYSTEM}Now!", 40, sampling=hot(9))
        texts.add(harness.run(warm)[4])
        assert harness.done[4].cached_tokens > 100
    assert len(texts) == 1
    other_seed = text_request(5, f"{SYSTEM}Now!", 40, sampling=hot(10))
    assert run_alone(load_spec(any_gguf), [other_seed])[5] not in texts


def test_giving_way_changes_no_text(any_gguf: Path) -> None:
    requests = [text_request(i, PROMPTS[i] * 4, 60, sampling=hot(i)) for i in range(4)]
    with open_engine(load_spec(any_gguf, cells=512)) as harness:
        together = harness.run(*requests)
        assert harness.stats[-1].preempted > 0
    assert together == run_alone(load_spec(any_gguf), requests)


def random_request(rng: random.Random, number: int, stem: str) -> Submit:
    sampling = rng.choice((GREEDY, hot(number)))
    limits = Limits(num_predict=rng.randint(0, 200))
    prompt = f"{stem[: rng.randrange(150)]} {rng.randrange(3)}"
    schema = rng.choice(("", PERSON))
    return text_request(number, prompt, sampling=sampling, limits=limits, schema=schema)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_a_text_is_what_it_is_alone(any_gguf: Path, seed: int) -> None:
    rng = random.Random(f"{any_gguf.stem} {seed}")
    cells, batch = rng.randint(256, 700), rng.choice((8, 32, 128))
    requests = [random_request(rng, i, rng.choice((SYSTEM, SYSTEM[50:]))) for i in range(10)]
    coming, cancelled = requests[:], set[int]()
    with open_engine(load_spec(any_gguf, num_ctx=256, cells=cells, batch=batch)) as harness:
        while len(harness.done) < len(requests):
            busy = {r.id for r in requests if r not in coming} - harness.done.keys()
            if coming and (not busy or rng.random() < 0.3):
                harness.submit(coming.pop())
            if len(busy) > 1 and rng.random() < 0.01:
                cancelled.add(victim := rng.choice(sorted(busy)))
                harness.cancel(victim)
            if rng.random() < 0.03:
                harness.loaded.context.abort()
            harness.turn()
        texts = harness.texts
    alone = run_alone(
        load_spec(any_gguf, num_ctx=256), [r for r in requests if r.id not in cancelled]
    )
    assert {i: texts[i] for i in alone} == alone


def structured() -> list[Submit]:
    """Greedy and hot ones, after one prompt."""
    samplings = (GREEDY, hot(1), hot(2), hot(3))
    return [
        text_request(i, "Who is it?", 300, sampling=sampling, schema=PERSON)
        for i, sampling in enumerate(samplings)
    ]


def test_a_schema_is_followed_beside_others_as_alone(any_gguf: Path) -> None:
    with open_engine(load_spec(any_gguf)) as harness:
        texts = harness.run(*structured())
        done = harness.done
    assert {done[i].reason for i in range(4)} == {"stop"}
    for text in texts.values():
        answer = json.loads(text)
        assert answer.keys() == {"name", "kind"}
        assert len(answer["name"]) <= 8
        assert answer["kind"] in ("cat", "dog")
    assert len(set(texts.values())) > 1
    assert texts == run_alone(load_spec(any_gguf), structured())


def test_a_schema_binds_only_the_request_that_has_it(gguf: Path) -> None:
    free = text_request(9, "Who is it?", 30)
    with open_engine(load_spec(gguf)) as harness:
        text = harness.run(*structured()[:3], free)[9]
    assert text == run_alone(load_spec(gguf), [free])[9]


def test_a_schema_survives_giving_way(gguf: Path) -> None:
    requests = [text_request(i, PROMPTS[i], 200, sampling=hot(i), schema=PERSON) for i in range(4)]
    with open_engine(load_spec(gguf, num_ctx=192, cells=192)) as harness:
        together = harness.run(*requests)
        assert harness.stats[-1].preempted > 0
    assert together == run_alone(load_spec(gguf, num_ctx=192), requests)
    assert all(json.loads(text) for text in together.values())


def test_a_schema_that_cannot_be_followed_is_refused_before_the_engine(gguf: Path) -> None:
    with open_engine(load_spec(gguf)) as harness:
        with pytest.raises(InvalidFormat, match="banana"):
            harness.submit(text_request(0, "x", schema='{"type": "banana"}'))
        assert harness.run(text_request(1, "x", 5))[1]


@pytest.mark.parametrize("sampling", [GREEDY, hot(3)], ids=["greedy", "hot"])
def test_every_token_that_is_told_has_its_logprob(gguf: Path, sampling: Sampling) -> None:
    with open_engine(load_spec(gguf)) as harness:
        texts = harness.run(
            text_request(0, "tell me", 30, sampling=sampling),
            text_request(1, "tell me", 30, sampling=sampling, num_logprobs=0),
            text_request(2, "tell me", 30, sampling=sampling, num_logprobs=5),
        )
        none, own, top = (harness.logprobs(i) for i in range(3))
        assert harness.done[1].eval_tokens == harness.done[2].eval_tokens == len(own) == len(top)
    assert texts[0] == texts[1] == texts[2]
    assert none == []
    assert all(entry.logprob <= 0 and entry.top == () for entry in own)
    assert [entry.logprob for entry in own] == pytest.approx(
        [entry.logprob for entry in top], abs=1e-4
    )
    assert b"".join(entry.piece for entry in top).decode("utf-8", "replace") == texts[2]
    for entry in top:
        values = [alternative.logprob for alternative in entry.top]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        assert all(value <= 0 for value in values)
        assert entry.logprob <= values[0]
        if sampling is GREEDY:
            assert (entry.piece, entry.logprob) == (entry.top[0].piece, entry.top[0].logprob)


def test_logprobs_are_told_even_of_text_that_is_held_back(gguf: Path) -> None:
    free = run_alone(load_spec(gguf), [text_request(0, "stop here", 30)])[0]
    limits = Limits(num_predict=30, stop=(free[10:13],))
    with open_engine(load_spec(gguf)) as harness:
        harness.run(text_request(0, "stop here", limits=limits, num_logprobs=0))
        assert len(harness.logprobs(0)) == harness.done[0].eval_tokens


class Panic(BaseException):
    """What pyo3 raises where Rust panics: no Exception."""


class FaultyGrammar(Grammar):
    """Allows everything, and raises when a method has been called often enough."""

    def __init__(self, method: str, calls: int, fault: BaseException) -> None:
        self._method, self._left, self._fault = method, calls, fault
        self._every = np.ones(0, np.bool_)

    def _count(self, method: str) -> None:
        self._left -= method == self._method
        if self._left < 0:
            raise self._fault

    def sized(self, num_tokens: int) -> FaultyGrammar:
        self._every = np.ones(num_tokens, np.bool_)
        return self

    def copy(self) -> FaultyGrammar:
        return self

    def allowed(self) -> NDArray[np.bool_]:
        self._count("allowed")
        return self._every

    def num_possible(self, tokens: Sequence[int]) -> int:
        self._count("num_possible")
        return len(tokens)

    def accept(self, token: int) -> None:
        self._count("accept")


class FaultyParser(ContentParser):
    """Passes text on until a method is called."""

    def __init__(self, method: str) -> None:
        self._method = method

    def push(self, text: str) -> Parsed:
        if self._method == "push" and text:
            raise Panic("push")
        return Parsed(text)

    def finish(self) -> Parsed:
        if self._method == "finish":
            raise Panic("finish")
        return Parsed()


FAULTS: dict[str, Callable[[], FaultyGrammar | FaultyParser]] = {
    "allowed": lambda: FaultyGrammar("allowed", 9, Panic("mask")),
    "accept": lambda: FaultyGrammar("accept", 9, AssertionError()),
    "limit": lambda: FaultyGrammar("accept", 0, InvalidFormat("too complex")),
    "num_possible": lambda: FaultyGrammar("num_possible", 0, Panic("drafts")),
    "push": lambda: FaultyParser("push"),
    "finish": lambda: FaultyParser("finish"),
}


@pytest.mark.parametrize("speculation", [0, 3])
@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_of_a_stream_ends_it_alone(
    any_gguf: Path, name: str, speculation: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in the middle of its drafts; its slot and its cells serve the next request."""
    load = load_spec(any_gguf, slots=2, speculation=speculation, cells=1024)
    requests = [text_request(i, "over and over and over and over and over", 150) for i in (1, 2)]
    with open_engine(load) as harness:
        alone = harness.run(requests[0])[1]
        if name == "num_possible" and not harness.stats[-1].drafts:
            pytest.skip("only drafts ask for it")
        harness.deltas.clear()
        sequence = harness.input.prepare(msgspec.structs.replace(requests[0], id=7))
        fault = FAULTS[name]()
        if isinstance(fault, FaultyGrammar):
            grammar = fault.sized(harness.loaded.model.num_tokens)
            sequence.constraint = Constraint(grammar)
        else:
            sequence.parser = fault
        harness.engine.submit(sequence)
        harness.submit(*requests)
        texts = harness.finish(3)
        assert harness.failed.keys() == {7}
        assert 7 not in harness.done
        assert {1: alone, 2: alone} == {i: texts[i] for i in (1, 2)}
        assert harness.engine.is_idle
        harness.deltas.clear()
        assert harness.run(msgspec.structs.replace(requests[0], id=8))[8] == alone
    failed = harness.failed[7]
    if name == "limit":
        assert (failed.kind, failed.text) == ("InvalidFormat", "too complex")
    else:
        assert failed.text.startswith("internal error")
        assert "request 7 failed" in caplog.text
        assert "Traceback" in caplog.text


def test_a_failed_decode_is_nobodys_own(gguf: Path) -> None:
    with open_engine(load_spec(gguf)) as harness:
        sequence = harness.input.prepare(text_request(1, "x"))
        grammar = FaultyGrammar("allowed", 2, DecodeFailed("lost"))
        sequence.constraint = Constraint(grammar.sized(harness.loaded.model.num_tokens))
        harness.engine.submit(sequence)
        with pytest.raises(DecodeFailed, match="lost"):
            harness.finish(1)
        assert not harness.failed


def test_a_stream_without_a_possible_token_fails_alone(gguf: Path) -> None:
    bias = tuple((token, float("-inf")) for token in range(400))
    impossible = text_request(0, "x", sampling=Sampling(temperature=0.0, logit_bias=bias))
    with open_engine(load_spec(gguf)) as harness:
        texts = harness.run(impossible, text_request(1, "others", 20))
        assert "no token is possible" in harness.failed.pop(0).text
        assert not harness.failed
        assert texts[1] == run_alone(load_spec(gguf), [text_request(1, "others", 20)])[1]
