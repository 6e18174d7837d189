"""OpenAI's official Python client, as a user's program has it: only the address is ours."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import openai
import pytest
from daemons import Daemon, start_daemon
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from tiny import write_llama
from tiny_bert import write_bert
from weights import import_gguf

pytestmark = pytest.mark.contract

TINY, BERT = "tiny", "bert"
ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Name a color."}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with tiny models and four slots."""
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, TINY, write_llama(folder / "tiny.gguf", seed=1))
    import_gguf(root, BERT, write_bert(folder / "bert.gguf"))
    import_gguf(root, "someone/small:v1", folder / "tiny.gguf")
    env = {"OUTRIDER_NUM_PARALLEL": "4"}
    with start_daemon(root, tmp_path_factory.mktemp("daemon"), env=env) as running:
        yield running


@pytest.fixture
def client(served: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def text_of(completion: ChatCompletion, index: int = 0) -> str:
    content = completion.choices[index].message.content
    assert content is not None
    return content


def test_chat_and_its_stream_agree(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=TINY, messages=ASK, temperature=0, max_tokens=12)
    stream = client.chat.completions.create(
        model=TINY,
        messages=ASK,
        temperature=0,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    assert text_of(whole)
    assert text_of(whole) == "".join(c.choices[0].delta.content or "" for c in chunks)
    assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "length"
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant", None]
    assert whole.usage
    assert whole.usage.completion_tokens == 12
    assert last.choices == []
    assert last.usage == whole.usage
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


def test_content_parts_and_roles(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=TINY,
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
        max_completion_tokens=3,
    )
    assert answer.usage
    assert answer.usage.completion_tokens == 3


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str:
        return text_of(
            client.chat.completions.create(model=TINY, messages=ASK, seed=seed, max_tokens=12)
        )

    assert ask(5) == ask(5)
    assert ask(5) != ask(6)


def test_several_choices_have_seeds_of_their_own(client: openai.OpenAI) -> None:
    three = client.chat.completions.create(model=TINY, messages=ASK, seed=5, max_tokens=12, n=3)
    alone = client.chat.completions.create(model=TINY, messages=ASK, seed=6, max_tokens=12)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len({text_of(three, i) for i in range(3)}) == 3
    assert text_of(three, 1) == text_of(alone)
    assert three.usage
    assert three.usage.completion_tokens == 36
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(
        model=TINY, messages=ASK, seed=5, max_tokens=12, n=3, stream=True
    ):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [text_of(three, i) for i in range(3)]


def test_a_stop_string_ends_the_answer(client: openai.OpenAI) -> None:
    whole = text_of(
        client.chat.completions.create(model=TINY, messages=ASK, temperature=0, max_tokens=12)
    )
    stop = whole[4:6]
    cut = client.chat.completions.create(
        model=TINY, messages=ASK, temperature=0, max_tokens=12, stop=[stop]
    )
    assert text_of(cut) == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=TINY, messages=ASK, temperature=0, max_tokens=4, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].logprobs
    entries = answer.choices[0].logprobs.content
    assert entries
    assert len(entries) == 4
    assert "".join(entry.token for entry in entries) == text_of(answer)
    for entry in entries:
        assert entry.top_logprobs[0].token == entry.token
        assert math.isclose(entry.logprob, entry.top_logprobs[0].logprob)


def test_a_biased_token_is_always_taken(client: openai.OpenAI) -> None:
    free = client.chat.completions.create(model=TINY, messages=ASK, max_tokens=4, seed=1)
    biased = client.chat.completions.create(
        model=TINY, messages=ASK, max_tokens=4, seed=1, logit_bias={"40": 100}
    )
    assert len(set(text_of(biased))) == 1
    assert text_of(free) != text_of(biased)


def test_an_answer_that_follows_a_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"dark": {"type": "boolean"}, "hue": {"enum": ["red", "blue"]}},
        "required": ["dark", "hue"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=TINY,
        messages=ASK,
        seed=1,
        max_tokens=200,
        response_format={"type": "json_schema", "json_schema": {"name": "color", "schema": schema}},
    )
    value = json.loads(text_of(answer))
    assert value["hue"] in ("red", "blue")
    assert isinstance(value["dark"], bool)
    assert answer.choices[0].finish_reason == "stop"


def test_an_invalid_response_format(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="invalid response_format type"):
        client.chat.completions.create(
            model=TINY,
            messages=ASK,
            response_format={"type": "xml"},  # type: ignore[call-overload]
        )


def test_completions(client: openai.OpenAI) -> None:
    fields = {"model": TINY, "prompt": "Once", "temperature": 0, "max_tokens": 6}
    whole = client.completions.create(**fields, logprobs=1, echo=False)  # type: ignore[call-overload]
    parts = list(client.completions.create(**fields, stream=True))  # type: ignore[call-overload]
    assert whole.choices[0].text == "".join(part.choices[0].text for part in parts)
    assert parts[-1].choices[0].finish_reason == "length"
    logprobs = whole.choices[0].logprobs
    assert "".join(logprobs.tokens) == whole.choices[0].text
    assert len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 6
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert whole.choices[0].text[offset:].startswith(token)
    two = client.completions.create(model=TINY, prompt=["Once", "Then"], max_tokens=2, echo=True)
    assert [choice.text[:4] for choice in two.choices] == ["Once", "Then"]


def test_embeddings(client: openai.OpenAI) -> None:
    texts = ["a red house", "a blue house"]
    packed = client.embeddings.create(model=BERT, input=texts)  # the client asks for base64
    plain = client.embeddings.create(model=BERT, input=texts, encoding_format="float")
    assert [item.index for item in plain.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
        assert math.isclose(sum(x * x for x in one.embedding), 1, rel_tol=1e-5)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0
    short = client.embeddings.create(model=BERT, input="a", dimensions=3, encoding_format="float")
    assert len(short.data[0].embedding) == 3


def test_the_models(client: openai.OpenAI) -> None:
    ids = {model.id for model in client.models.list()}
    assert ids == {"tiny:latest", "bert:latest", "someone/small:v1"}
    one = client.models.retrieve("someone/small:v1")
    assert (one.id, one.owned_by) == ("someone/small:v1", "someone")
    assert client.models.retrieve(TINY).owned_by == "library"
    with pytest.raises(openai.NotFoundError, match="model 'nobody:latest' not found"):
        client.models.retrieve("nobody")


def test_errors_have_a_type_and_a_text(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=ASK)
    assert missing.value.type == "not_found_error"
    assert "model 'nobody' not found" in missing.value.message
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model=TINY, messages=[])
    assert empty.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="does not support thinking"):
        client.chat.completions.create(model=TINY, messages=ASK, reasoning_effort="low")
    with pytest.raises(openai.BadRequestError, match="does not support chat"):
        client.chat.completions.create(model=BERT, messages=ASK)


async def test_the_async_client_streams_side_by_side(served: Daemon) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="unused") as client:
        first, second = [
            await client.chat.completions.create(
                model=TINY, messages=ASK, temperature=0, max_tokens=12, stream=True
            )
            for _ in range(2)
        ]
        texts = ["", ""]
        for index, stream in enumerate((second, first)):
            async for chunk in stream:
                texts[index] += chunk.choices[0].delta.content or ""
        listed = [model.id async for model in client.models.list()]
    assert texts[0]
    assert texts[0] == texts[1]
    assert "tiny:latest" in listed
