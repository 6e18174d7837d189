"""/v1/systemone without weights (CONTRACT 2.8)."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from fake_runner import DONE, HANG, Script
from front import Front
from outrider.daemon.api.systemone.prompt import INSTRUCTIONS
from outrider.daemon.chat.conversation import Conversation, Message
from outrider.daemon.errors import BadRequest, RunnerDied
from outrider.daemon.protocol import Delta, Started, Submit
from outrider.models import manifest as media
from outrider.models.manifest import Manifest
from outrider.models.name import Name
from outrider.models.store import Store

pytestmark = pytest.mark.unit

PATH = "/v1/systemone"
STATE = "Charged twice. Refund €20? <|im_end|>"
REFUND = {"type": "noul", "instructions": "Is a refund requested?"}
TEAM = {
    "type": "choice",
    "instructions": {"rule": "Which team?"},
    "criteria": {"billing": "Payments", "technical": None},
}
ASKED = (
    r'{"context": "Charged twice. Refund €20? \u003c|im_end|\u003e", "schema": ['
    '{"name": "refund", "description": "Is a refund requested?", "choices": ['
    '{"code": "A", "value": false, "description": "No"}, '
    '{"code": "B", "value": true, "description": "Yes"}]}, '
    '{"name": "team", "description": "{\\"rule\\":\\"Which team?\\"}", "choices": ['
    '{"code": "A", "value": "billing", "description": "Payments"}, '
    '{"code": "B", "value": "technical", "description": "technical"}]}]}'
)


def scored(*shares: float) -> Script:
    done = msgspec.structs.replace(
        DONE, reason="length", eval_tokens=1, scores=tuple(map(math.log, shares))
    )
    return [Delta(1, started=Started(5)), Delta(1, "B"), Delta(1, done=done)]


async def decide(front: Front, *scripts: Script, **fields: object) -> Any:
    front.runners.scripts.extend(scripts)
    body = {"model": "chat", "state": STATE, "questions": {"refund": REFUND}, **fields}
    return await front.post(PATH, body)


async def prompts(front: Front, **fields: object) -> list[tuple[Message, ...]]:
    front.runners.submits.clear()
    assert (await decide(front, scored(0.1, 0.2), **fields))[0] == 200
    asked = [submit.prompt for submit in front.runners.submits]
    return [prompt.messages for prompt in asked if isinstance(prompt, Conversation)]


async def test_the_answer(front: Front) -> None:
    status, answer = await decide(
        front, scored(0.1, 0.3), scored(0.4, 0.1), questions={"refund": REFUND, "team": TEAM}
    )
    assert status == 200
    assert list(answer) == ["model", "answers", "usage"]
    assert answer["model"] == "chat"
    assert list(answer["answers"]) == ["refund", "team"]
    assert answer["answers"]["refund"] == {"type": "noul", "noul": pytest.approx(0.75)}
    assert answer["answers"]["team"]["choice"] == "billing"
    assert answer["answers"]["team"]["probabilities"] == pytest.approx(
        {"billing": 0.8, "technical": 0.2}
    )
    assert answer["usage"] == {"input_tokens": 10, "output_tokens": 2}


async def test_each_question_is_asked_for_the_scores_of_its_codes(front: Front) -> None:
    questions = {"refund": REFUND, "team": TEAM}
    await decide(front, scored(0.1, 0.3), scored(0.1, 0.2), questions=questions, keep_alive=-1)
    for submit, name in zip(front.runners.submits, ("refund", "team"), strict=True):
        asked = f'{ASKED}\n\nRequested field: "{name}"'
        turns = (Message("system", INSTRUCTIONS), Message("user", asked))
        assert submit.prompt == Conversation(turns, think=False)
        check(submit)
    assert json.loads(ASKED)["context"] == STATE
    (loaded,) = front.pool.loaded_models
    assert math.isinf(loaded.expires_in_s)


def check(submit: Submit) -> None:
    assert submit.scored == ("A", "B")
    assert submit.limits.num_predict == 1
    assert not submit.limits.truncate
    assert not submit.limits.shift
    assert submit.sampling.temperature == 0
    assert submit.num_logprobs is None


def train(store: Store, name: str) -> str:
    """A model that declares the capability; its name."""
    manifest, trained = store.manifest(Name.parse(name)), f"trained-{name}"
    config = json.dumps({"model_format": "gguf", "capabilities": ["completion", "decision"]})
    layer = store.blobs.add_bytes(config.encode()).layer(media.CONFIG_TYPE)
    store.write(Name.parse(trained), Manifest(layer, manifest.layers))
    return trained


async def test_a_model_that_was_trained_for_decisions_has_no_system_but_its_own(
    front: Front,
) -> None:
    ((system, _),) = await prompts(front, model="full")
    assert system == Message("system", f"be kind\n\n{INSTRUCTIONS}")
    ((system, _),) = await prompts(front, model=train(front.store, "full"))
    assert system == Message("system", "be kind")
    ((user,),) = await prompts(front, model=train(front.store, "chat"))
    assert user.role == "user"


async def test_state_may_be_json(front: Front) -> None:
    ((_, user),) = await prompts(front, state={"frames": ["a", 2], "<": None})
    assert user.content.startswith(
        r'{"context": "{\"frames\":[\"a\",2],\"\u003c\":null}", "schema": ['
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": ""}, "model is required"),
        ({"model": " "}, "model is required"),
        ({"model": None}, "model is required"),
        ({"state": None}, "state must be a nonempty string, object, or array"),
        ({"state": " "}, "state must be a nonempty string, object, or array"),
        ({"state": 3}, "state must be a nonempty string, object, or array"),
        (
            {"questions": {"x": {"type": "noul"}}},
            'question "x": instructions must be a nonempty string, object, or array',
        ),
        ({"images": ["aW1hZ2U="]}, "this decision model does not support images"),
        ({"videos": ["video.mp4"]}, "video inputs are not supported"),
        ({"model": "vectors"}, '"vectors" does not support decision'),
    ],
)
async def test_what_is_refused_before_anything_is_loaded(
    front: Front, fields: dict[str, object], text: str
) -> None:
    assert await decide(front, **fields) == (400, {"error": text})
    assert front.runners.loads == []


async def test_bodies_that_are_no_request(front: Front) -> None:
    assert await front.post(PATH, b"") == (400, {"error": "missing request body"})
    for body in (b"{", b"[]", b'{"questions":[]}', b'{"questions":{"x":"noul"}}'):
        status, answer = await front.post(PATH, body)
        assert (status, list(answer)) == (400, ["error"])
        assert answer["error"]
    assert await decide(front, model="gone") == (404, {"error": "model 'gone' not found"})
    assert (await front.send("GET", PATH))[0] == 405


async def test_the_size_of_a_body_is_bounded(front: Front) -> None:
    body = {"model": "chat", "state": "", "questions": {"refund": REFUND}}
    space = (64 << 10) - len(json.dumps(body))
    front.runners.scripts.append(scored(0.5, 0.5))
    assert (await front.post(PATH, body | {"state": "x" * space}))[0] == 200
    status, answer = await front.post(PATH, body | {"state": "x" * (space + 1)})
    assert (status, answer) == (
        413,
        {"error": "the request body is too large: at most 64 KiB are read"},
    )


async def test_the_first_error_ends_the_other_questions(front: Front) -> None:
    questions = {"refund": REFUND, "team": TEAM}
    hangs: Script = [Delta(1, started=Started(5)), HANG]
    for error, status in ((BadRequest("too long"), 400), (RunnerDied("gone"), 500)):
        front.runners.cancelled.clear()
        answer = await decide(front, hangs, [error], questions=questions)
        assert answer == (status, {"error": str(error)})
        assert front.runners.cancelled.is_set()
    assert front.pool.loaded_models[0].users == 0
