"""The engine on a real (tiny, F32) model: whatever happens around a request, its text stays."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from engines import GREEDY, ask, chat, load_spec, open_bench, run_alone
from outrider.daemon.errors import BadRequest, LoadFailed
from outrider.daemon.protocol import Limits, Sampling
from outrider.daemon.runner.llama import load_model
from tiny import write_llama

PROMPTS = [
    f"{word} is number {i} of the eight" for i, word in enumerate("one two six ten".split() * 2)
]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf", seed=1)


def test_eight_requests_over_four_slots_give_what_each_gives_alone(gguf: Path) -> None:
    requests = [ask(i, prompt, 40) for i, prompt in enumerate(PROMPTS)]
    with open_bench(load_spec(gguf)) as bench:
        together = bench.run(*requests)
    alone = run_alone(load_spec(gguf), requests)
    assert together == alone
    assert len(set(alone.values())) == len(PROMPTS), "the prompts must matter"


def test_all_slots_advance_in_the_same_step(gguf: Path) -> None:
    with open_bench(load_spec(gguf)) as bench:
        bench.run(*[ask(i, "hello", 30) for i in range(4)])
        # one step for the four prompts, then one for each further token of all four
        assert bench.num_turns <= 31


def test_the_batch_size_does_not_change_the_text(gguf: Path) -> None:
    request = ask(0, "a prompt that takes several chunks " * 8, 30)
    texts = {run_alone(load_spec(gguf, batch=batch), [request])[0] for batch in (8, 33, 128)}
    assert len(texts) == 1


def test_a_full_pool_makes_the_youngest_wait_and_changes_no_text(gguf: Path) -> None:
    requests = [ask(i, prompt * 4, 60) for i, prompt in enumerate(PROMPTS[:4])]
    tight = load_spec(gguf, cells=512)
    with open_bench(tight) as bench:
        together = bench.run(*requests)
    assert together == run_alone(load_spec(gguf), requests)


def test_a_cancelled_request_frees_its_slot_and_disturbs_nobody(gguf: Path) -> None:
    requests = [ask(i, PROMPTS[i], 60) for i in range(3)]
    with open_bench(load_spec(gguf, slots=2, cells=1024)) as bench:
        bench.submit(*requests)
        for _ in range(5):
            bench.turn()
        bench.cancel(0)
        texts = bench.finish(3)
        assert bench.done[0].reason == "cancel"
        assert bench.done[0].eval_tokens < 10
    alone = run_alone(load_spec(gguf), requests[1:])
    assert {i: texts[i] for i in (1, 2)} == alone


def test_a_long_prompt_is_cut_short_by_a_cancel_and_the_others_go_on(gguf: Path) -> None:
    requests = [ask(0, "stay " * 5, 40), ask(1, "go " * 150, 5)]
    with open_bench(load_spec(gguf, num_ctx=1024)) as bench:
        bench.submit(*requests)
        stop = threading.Timer(0.005, lambda: bench.cancel(1))
        stop.start()
        texts = bench.finish(2)
        stop.join()
    assert texts[0] == run_alone(load_spec(gguf), requests[:1])[0]


def test_an_aborted_step_is_decoded_again(gguf: Path) -> None:
    requests = [ask(0, "first", 20), ask(1, "second " * 20, 20)]
    with open_bench(load_spec(gguf)) as bench:
        bench.submit(*requests)
        for _ in range(4):
            bench.loaded.context.abort()
            bench.turn()
        texts = bench.finish(2)
    assert texts == run_alone(load_spec(gguf), requests)


def test_a_seed_fixes_the_text_and_no_seed_does_not(gguf: Path) -> None:
    hot = {seed: Sampling(temperature=1.5, seed=seed) for seed in (7, 8, -1)}
    with open_bench(load_spec(gguf)) as bench:
        texts = bench.run(
            ask(0, "again", 30, sampling=hot[7]),
            ask(1, "again", 30, sampling=hot[7]),
            ask(2, "again", 30, sampling=hot[8]),
            ask(3, "again", 30, sampling=hot[-1]),
        )
    assert texts[0] == texts[1]
    assert len({texts[0], texts[2], texts[3]}) == 3


def test_a_penalty_sees_the_prompt(gguf: Path) -> None:
    loud = Sampling(temperature=0.0, repeat_penalty=3.0, repeat_last_n=-1)
    plain, penalised = (
        run_alone(load_spec(gguf), [ask(0, "aaaa bbbb", 30, sampling=s)])[0] for s in (GREEDY, loud)
    )
    assert plain != penalised


@pytest.mark.parametrize(("num_predict", "count"), [(0, 0), (1, 1), (17, 17)])
def test_num_predict_is_exact(gguf: Path, num_predict: int, count: int) -> None:
    with open_bench(load_spec(gguf)) as bench:
        bench.run(ask(0, "count", num_predict))
        assert bench.done[0].eval_tokens == count
        assert bench.done[0].reason == "length"


def test_a_stop_string_ends_the_text_before_it(gguf: Path) -> None:
    free = run_alone(load_spec(gguf), [ask(0, "stop here", 30)])[0]
    stop = free[10:13]
    limits = Limits(num_predict=30, stop=(stop,))
    with open_bench(load_spec(gguf)) as bench:
        text = bench.run(ask(0, "stop here", limits=limits))[0]
        assert text == free[: free.index(stop)]
        assert bench.done[0].reason == "stop"


def test_a_full_context_shifts_and_goes_on(gguf: Path) -> None:
    with open_bench(load_spec(gguf, num_ctx=64)) as bench:
        bench.run(ask(0, "a story without an end", 150))
        assert bench.done[0].eval_tokens == 150


def test_a_full_context_ends_the_text_when_shifting_is_forbidden(gguf: Path) -> None:
    limits = Limits(num_predict=150, shift=False)
    with open_bench(load_spec(gguf, num_ctx=64)) as bench:
        bench.run(ask(0, "a story", limits=limits))
        done = bench.done[0]
        assert done.reason == "length"
        assert done.prompt_tokens + done.eval_tokens == 64


def test_a_shifted_text_is_what_the_model_says_to_the_kept_tokens(gguf: Path) -> None:
    load = load_spec(gguf, num_ctx=64)
    with open_bench(load) as bench:
        whole = bench.run(ask(0, "x" * 40, 60))[0]
        sequence = bench.intake.prepare(ask(1, "x" * 40))
        tokens = bench.loaded.model.tokenize("x" * 40 + whole, add_bos=False)
        sequence.tokens = tokens[:64]
        sequence.shift()
        kept, expected = sequence.tokens, tokens[64:69]
        pieces = [bench.loaded.model.piece(token).decode() for token in (*kept, *expected)]
    text = run_alone(load, [ask(2, "".join(pieces[: len(kept)]), 5)])[2]
    assert text == "".join(pieces[len(kept) :])


def test_a_prompt_that_is_too_long_is_cut_or_refused(gguf: Path) -> None:
    with open_bench(load_spec(gguf, num_ctx=64)) as bench:
        sequence = bench.intake.prepare(ask(0, "y" * 500))
        assert len(sequence.tokens) == 64 - (64 - 4) // 2
        for limits in (Limits(truncate=False), Limits(shift=False)):
            with pytest.raises(BadRequest, match="longer than the context length"):
                bench.intake.prepare(ask(0, "y" * 500, limits=limits))


def test_the_oldest_messages_are_dropped_but_never_the_last(gguf: Path) -> None:
    with open_bench(load_spec(gguf, num_ctx=128)) as bench:
        text = bench.intake.render(chat(0, "old" * 20, "older" * 9, "last words", limits=Limits()))
    assert "last words" in text
    assert "old" * 20 not in text


def test_a_missing_or_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 100)
    for path in (broken, tmp_path / "missing.gguf"):
        with pytest.raises(LoadFailed, match=path.name):
            load_model(load_spec(path), lambda _fraction: None)
