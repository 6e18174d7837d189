"""/v1/completions without weights (CONTRACT 2.3)."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from fake_runner import DONE, Script
from front import Front
from outrider.daemon.chat.conversation import Conversation, Infill, Message
from outrider.daemon.errors import RunnerDied
from outrider.daemon.protocol import Alternative, Delta, Logprob, Sampling, Started, Submit
from outrider.daemon.runners.model_info import ModelInfo

pytestmark = pytest.mark.unit

PATH = "/v1/completions"
STARTED = Delta(1, started=Started(5))
SCRIPT: Script = [
    STARTED,
    Delta(1, thinking="hm"),
    Delta(1, "Hi"),
    Delta(1, " you"),
    Delta(1, done=DONE),
]
ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
USAGE = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


async def ask(front: Front, script: Script = SCRIPT, **fields: object) -> Any:
    front.runners.scripts.append(script)
    status, answer = await front.post(PATH, {"model": "chat", "prompt": "hello", **fields})
    assert status == 200, answer
    return answer


async def stream(front: Front, script: Script = SCRIPT, **fields: object) -> list[Any]:
    front.runners.scripts.append(script)
    return await front.sse(PATH, {"model": "chat", "prompt": "hello", "stream": True, **fields})


async def submitted(front: Front, **fields: object) -> Submit:
    await ask(front, **fields)
    return front.runners.submits[-1]


async def refusal(front: Front, **fields: object) -> tuple[int, str]:
    status, answer = await front.post(PATH, {"model": "chat", "prompt": "hello", **fields})
    return status, answer["error"]["message"]


def texts(chunks: list[Any]) -> list[tuple[int, str, str | None]]:
    choices = [chunk["choices"][0] for chunk in chunks if chunk != "[DONE]" and chunk["choices"]]
    return [(choice["index"], choice["text"], choice["finish_reason"]) for choice in choices]


async def test_an_answer_byte_by_byte(front: Front) -> None:
    front.runners.scripts.append(SCRIPT)
    status, text = await front.send("POST", PATH, {"model": "Chat", "prompt": "hello"})
    assert status == 200
    text = re.sub(r'"cmpl-\d+"', '"ID"', re.sub(r'"created":\d+', '"created":T', text))
    assert text == (
        '{"id":"ID","object":"text_completion","created":T,"model":"Chat",'
        '"system_fingerprint":"fp_ollama",'
        '"choices":[{"text":"Hi you","index":0,"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9}}'
    )


async def test_a_stream(front: Front) -> None:
    chunks = await stream(front)
    assert texts(chunks) == [(0, "Hi", None), (0, " you", None), (0, "", "stop")]
    assert chunks[-1] == "[DONE]"
    assert {chunk["object"] for chunk in chunks[:-1]} == {"text_completion"}
    assert not any("usage" in chunk for chunk in chunks[:-1])


async def test_a_stream_with_usage(front: Front) -> None:
    chunks = await stream(front, stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in chunks[:-1]] == [ZERO, ZERO, ZERO, USAGE]
    assert chunks[-2]["choices"] == []


async def test_the_prompt_is_put_into_the_template(front: Front) -> None:
    submit = await submitted(front, model="full")
    assert submit.prompt == Conversation((Message("system", "be kind"), Message("user", "hello")))
    assert submit.sampling == Sampling(temperature=1.0, top_p=1.0)
    assert submit.limits.num_predict == 7


async def test_parameters(front: Front) -> None:
    submit = await submitted(
        front, temperature=0, top_p=0.5, seed=3, max_tokens=2, stop=["a", "b"], presence_penalty=1
    )
    assert submit.sampling == Sampling(temperature=0, top_p=0.5, seed=3, presence_penalty=1.0)
    assert (submit.limits.num_predict, submit.limits.stop) == (2, ("a", "b"))
    assert (await submitted(front, prompt=["hello"], stop="a")).limits.stop == ("a",)


async def test_a_suffix(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await refusal(front, suffix="x") == (
        400,
        "registry.ollama.ai/library/chat:latest does not support insert",
    )
    monkeypatch.setattr(ModelInfo, "can", lambda _self, _capability: True)
    assert (await submitted(front, suffix="x")).prompt == Infill("hello", "x")
    assert (await submitted(front, prompt="", suffix="x")).prompt == Infill("", "x")


async def test_an_empty_prompt_loads_the_model(front: Front) -> None:
    status, answer = await front.post(PATH, {"model": "chat"})
    assert status == 200
    assert answer["choices"] == [{"text": "", "index": 0, "finish_reason": "load"}]
    assert answer["usage"] == ZERO
    chunks = await front.sse(PATH, {"model": "chat", "prompt": "", "stream": True})
    assert texts(chunks) == [(0, "", "load")]
    assert len(front.runners.loads) == 1


async def test_choices_of_several_prompts(front: Front) -> None:
    front.runners.scripts.extend([SCRIPT] * 3)
    answer = await ask(front, prompt=["a", "b"], n=2, echo=True, seed=1)
    assert [choice["text"] for choice in answer["choices"]] == [
        "aHi you", "aHi you", "bHi you", "bHi you",
    ]  # fmt: skip
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 16, "total_tokens": 26}
    seeds = {(s.prompt.messages[-1].content, s.sampling.seed)  # type: ignore[union-attr]
             for s in front.runners.submits}  # fmt: skip
    assert seeds == {("a", 1), ("a", 2), ("b", 1), ("b", 2)}


async def test_an_echo_comes_first_in_a_stream(front: Front) -> None:
    assert texts(await stream(front, echo=True))[:2] == [(0, "hello", None), (0, "Hi", None)]


HI = Logprob(b"Hi", -0.5, (Alternative(b"Ho", -0.25), Alternative(b"Hi", -0.5)))
YOU = Logprob(" yöu".encode(), -1.0)
SPOKEN: Script = [
    Delta(1, "Hi", logprobs=(HI,)),
    Delta(1, logprobs=(YOU,)),
    Delta(1, " yöu!", logprobs=(Logprob(b"!", -2.0),)),
    Delta(1, done=DONE),
]


async def test_logprobs_in_the_older_shape(front: Front) -> None:
    answer = await ask(front, SPOKEN, logprobs=2)
    assert front.runners.submits[-1].num_logprobs == 2
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["Hi", " yöu", "!"],
        "token_logprobs": [-0.5, -1.0, -2.0],
        "top_logprobs": [{"Hi": -0.5, "Ho": -0.25}, {" yöu": -1.0}, {"!": -2.0}],
        "text_offset": [0, 2, 6],
    }
    chunks = await stream(front, SPOKEN, logprobs=0)
    logprobs = [chunk["choices"][0].get("logprobs") for chunk in chunks[:-1]]
    assert [part and part["text_offset"] for part in logprobs] == [[0], [2], [6], None]


async def test_the_prompt_alone(front: Front) -> None:
    rendered = msgspec.structs.replace(DONE, reason="render")
    answer = await ask(front, [Delta(1, "<hello>", done=rendered)], _debug_render_only=True)
    assert answer["_debug_info"] == {"rendered_template": "<hello>", "image_count": 0}


REFUSALS: list[tuple[dict[str, object], int, str]] = [
    ({"model": ""}, 404, "model '' not found"),
    ({"model": "nobody"}, 404, "model 'nobody' not found"),
    ({"model": "vectors"}, 400, '"vectors" does not support generate'),
    ({"prompt": [1, 2]}, 400, "prompt must be a string or an array of strings"),
    ({"prompt": []}, 400, "a request may have 1 to 64 prompts"),
    ({"prompt": 3}, 400, "prompt must be a string or an array of strings"),
    ({"stop": ["a", 3]}, 400, "invalid type for 'stop' field: number"),
    ({"stop": True}, 400, "invalid type for 'stop' field: bool"),
    ({"n": 9}, 400, "n must be between 1 and 8"),
    ({"echo": True, "logprobs": 1}, 400, "echo with logprobs is not supported"),
]


async def test_what_is_refused(front: Front) -> None:
    for fields, status, text in REFUSALS:
        got, message = await refusal(front, **fields)
        assert (got, message[: len(text)]) == (status, text)


async def test_an_error_after_the_first_chunk(front: Front) -> None:
    *chunks, last = await stream(front, [STARTED, Delta(1, "Hi"), RunnerDied("gone")])
    assert texts(chunks) == [(0, "Hi", None)]
    assert last["error"]["message"] == "gone"
