"""The events of a request, and the fold of them, before any dialect words them."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from fake_runner import DONE, HANG
from front import Front
from outrider.daemon.api.completion import (
    Accepted,
    Answer,
    Completion,
    Event,
    Events,
    Finished,
    Loaded,
    Output,
    Rendered,
    collect,
    complete,
)
from outrider.daemon.api.ollama.answer import chat_shape, generate_shape
from outrider.daemon.api.state import APP_STATE
from outrider.daemon.chat.conversation import RawPrompt, ToolCall
from outrider.daemon.errors import LoadFailed, RunnerDied
from outrider.daemon.options import Options
from outrider.daemon.protocol import Delta, Done, Logprob

pytestmark = pytest.mark.unit

CALLS = (ToolCall("f", {"x": 1}, "c1"), ToolCall("g", {}, "c2", 1))
ACCEPTED = Accepted(3, 1)
A, B = Logprob(b"a", -1.0), Logprob(b"b", -2.0)
FINISHED = Finished(DONE, load_ns=1, total_ns=2)


async def ask(front: Front, **changes: object) -> Events:
    """The generator of a request to the chat model."""
    app = front.client.app
    assert app
    state = app[APP_STATE]
    info = await state.model_index.find("chat", "")
    fields = {"prompt": RawPrompt("x"), "options": Options(), "start_ns": 0, **changes}
    return complete(state, Completion(info=info, **fields))  # type: ignore[arg-type]


async def events(front: Front, **changes: object) -> list[Event]:
    return [event async for event in await ask(front, **changes)]


async def stream(*given: Event) -> Events:
    for event in given:
        yield event


async def test_loaded_comes_first_and_finished_last(front: Front) -> None:
    front.runners.scripts.append(
        [
            Delta(1, "a", "b", CALLS[:1], (A,)),
            Delta(1),
            Delta(1, logprobs=(B,)),
            Delta(1, tool_calls=CALLS[1:]),
            Delta(1, "c", done=DONE),
        ]
    )
    loaded, *outputs, finished = await events(front)
    assert isinstance(loaded, Loaded)
    assert outputs == [
        Output("a", "b", CALLS[:1], (A,)),
        Output(logprobs=(B,)),
        Output(tool_calls=CALLS[1:]),
        Output("c"),
    ]
    assert isinstance(finished, Finished)
    assert finished.done == DONE
    assert finished.total_ns > finished.load_ns == loaded.load_ns > 0


async def test_without_a_prompt_there_is_only_loaded(front: Front) -> None:
    (loaded,) = await events(front, prompt=None)
    assert isinstance(loaded, Loaded)
    assert front.runners.submits == []
    assert len(front.runners.loads) == 1


async def test_a_rendered_prompt_is_no_output(front: Front) -> None:
    front.runners.scripts.append([Delta(1, "<s>x", done=Done("render"))])
    assert (await events(front, render_only=True))[1:] == [Rendered("<s>x", 0)]


async def test_closing_the_events_frees_the_slot_and_the_runner(front: Front) -> None:
    front.runners.scripts.append([Delta(1, "a"), HANG])
    async with aclosing(await ask(front)) as answer:
        assert isinstance(await anext(answer), Loaded)
        assert await anext(answer) == Output("a")
        assert front.pool.loaded_models[0].users == 1
        assert not front.runners.cancelled.is_set()
    assert front.runners.cancelled.is_set()
    assert front.pool.loaded_models[0].users == 0


async def test_errors_are_raised_and_free_the_runner(front: Front) -> None:
    front.runners.scripts.append([Delta(1, "a"), RunnerDied("gone")])
    with pytest.raises(RunnerDied):
        await events(front)
    assert front.pool.loaded_models[0].users == 0


async def test_a_failed_load_gives_no_event(front: Front) -> None:
    front.runners.load_error = LoadFailed("no memory")
    with pytest.raises(LoadFailed):
        await anext(await ask(front))


async def test_the_fold_joins_all_outputs() -> None:
    given = (
        Loaded(1),
        ACCEPTED,
        Output("", "hm", logprobs=(A,)),
        Output("a", "!", CALLS[:1]),
        Output("b", tool_calls=CALLS[1:], logprobs=(B,)),
        FINISHED,
    )
    joined = Output("ab", "hm!", CALLS, (A, B))
    assert await collect(stream(*given)) == Answer(joined, ACCEPTED, FINISHED)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ([Loaded(1)], Answer(Output(), None, Loaded(1))),
        ([Loaded(1), Rendered("x", 1)], Answer(Output(), None, Rendered("x", 1))),
        ([Loaded(1), FINISHED], Answer(Output(), None, FINISHED)),
    ],
)
async def test_the_fold_of_a_request_without_text(given: list[Event], answer: Answer) -> None:
    assert await collect(stream(*given)) == answer


def test_ollama_words_tool_calls_in_the_message() -> None:
    assert chat_shape(Output("a", tool_calls=CALLS)) == {
        "message": {
            "role": "assistant",
            "content": "a",
            "tool_calls": [
                {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}},
                {"id": "c2", "function": {"index": 1, "name": "g", "arguments": {}}},
            ],
        }
    }
    assert generate_shape(Output("a", "b")) == {"response": "a", "thinking": "b"}
