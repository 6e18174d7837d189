"""One streaming client for both servers: when did each piece of text arrive, and how many tokens?

The two APIs differ only in their adapter. Lines are stamped as they come and read after the last
one, so that the client takes little of the processor that it measures.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Protocol

import aiohttp

from .failure import BenchFailed

ANSWER_TIMEOUT_S = 180.0
LINE_BYTES = 1 << 20

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Ask:
    """A prompt that reaches the tokenizer as it is, answered greedily if nothing else is said."""

    prompt: str
    num_predict: int
    drawing: Mapping[str, float] = field(default_factory=lambda: {"temperature": 0, "top_k": 1})
    is_counted: bool = False  # each line says how many tokens it stands for


@dataclass(frozen=True, slots=True)
class Guessed:
    """What came of reading ahead for an answer."""

    drafted: int
    accepted: int
    mean_length: float  # of the drafts that were made

    @property
    def times(self) -> float:
        """That something was guessed."""
        return self.drafted / self.mean_length if self.drafted else 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """What one line of an answer holds."""

    text: str
    tokens: int  # of who was asked to count them
    usage: tuple[int, int] | None  # tokens of the prompt and of the answer; on the last line
    guessed: Guessed | None = None  # on the last line, of who tells it


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer. Times are those of one monotonic clock."""

    start_s: float
    arrivals_s: tuple[float, ...]  # of the lines that hold text or tokens
    texts: tuple[str, ...]  # of these lines
    counts: tuple[int, ...]  # of the tokens of these lines, if they were asked for
    prompt_tokens: int
    tokens: int
    guessed: Guessed | None = None

    @property
    def ttft_s(self) -> float:
        return self.arrivals_s[0] - self.start_s

    @property
    def decode_rate(self) -> float:
        """Tokens per second after the first."""
        return (self.tokens - 1) / (self.arrivals_s[-1] - self.arrivals_s[0])

    @property
    def gaps_s(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.arrivals_s)]


class Api(Protocol):
    """How a server is asked, and how its lines are read."""

    @property
    def path(self) -> str: ...

    @property
    def opening(self) -> bytes:
        """How a line with data begins; others are pauses or signs of life."""
        ...

    def body(self, ask: Ask) -> Json: ...

    def read(self, line: bytes) -> Part: ...


@dataclass(frozen=True, slots=True)
class OutriderApi:
    """Ollama's raw generate (CONTRACT 1.2)."""

    model: str
    options: Json  # how the model is to be loaded

    path: ClassVar[str] = "/api/generate"
    opening: ClassVar[bytes] = b"{"

    def body(self, ask: Ask) -> Json:
        options = {**self.options, **ask.drawing, "num_predict": ask.num_predict}
        body = {"model": self.model, "prompt": ask.prompt, "raw": True, "options": options}
        return {**body, "logprobs": True} if ask.is_counted else body

    def read(self, line: bytes) -> Part:
        data = json.loads(line)
        _check(data)
        counts = (data.get("prompt_eval_count", 0), data.get("eval_count", 0))
        told = data.get("speculation")
        guessed = Guessed(told["drafted"], told["accepted"], told["mean_length"]) if told else None
        tokens = len(data.get("logprobs") or ())
        return Part(data["response"], tokens, counts if data["done"] else None, guessed)


@dataclass(frozen=True, slots=True)
class PeerApi:
    """llama-server's own completion route, which sends each token on its own; its prompt cache
    stays as it is by default."""

    path: ClassVar[str] = "/completion"
    opening: ClassVar[bytes] = b"data:"
    fields: ClassVar[tuple[str, ...]] = ("content", "stop", "tokens_evaluated", "tokens_predicted")

    def body(self, ask: Ask) -> Json:
        return {
            "prompt": ask.prompt,
            "stream": True,
            "response_fields": self.fields,
            "n_predict": ask.num_predict,
            **ask.drawing,
        }

    def read(self, line: bytes) -> Part:
        data = json.loads(line.removeprefix(self.opening))
        _check(data)
        counts = (data["tokens_evaluated"], data["tokens_predicted"])
        text = data["content"]
        return Part(text, 1 if text else 0, counts if data["stop"] else None)


class Stream:
    """One request under way."""

    def __init__(self, session: aiohttp.ClientSession, api: Api, ask: Ask, mark: int) -> None:
        self._session = session
        self._api = api
        self._ask = ask
        self._mark = mark
        self._lines: list[tuple[float, bytes]] = []
        self._marked = asyncio.Event()
        self._start_s = time.perf_counter()
        self._task = asyncio.create_task(self._receive())

    async def marked(self) -> None:
        """Until so many lines have come as were marked, or the answer is over."""
        await self._marked.wait()

    async def reply(self) -> Reply:
        """The whole answer. Raises BenchFailed."""
        try:
            await self._task
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BenchFailed(f"{self._api.path} broke off: {error!r}") from error
        parts = [(at_s, self._api.read(line)) for at_s, line in self._lines]
        usage = parts[-1][1].usage if parts else None
        pieces = [(at_s, p.text, p.tokens) for at_s, p in parts if p.text or p.tokens]
        if usage is None or not pieces:
            raise BenchFailed(f"{self._api.path} gave no text or no token counts")
        arrivals_s, texts, counts = zip(*pieces, strict=True)
        return Reply(self._start_s, arrivals_s, texts, counts, *usage, parts[-1][1].guessed)

    async def _receive(self) -> None:
        try:
            async with self._session.post(
                self._api.path, json=self._api.body(self._ask)
            ) as response:
                if response.status != 200:
                    text = await response.text()
                    raise BenchFailed(f"{self._api.path}: status {response.status}: {text}")
                async for line in response.content:
                    if line.startswith(self._api.opening):
                        self._take(line)
        finally:
            self._marked.set()

    def _take(self, line: bytes) -> None:
        self._lines.append((time.perf_counter(), line))
        if len(self._lines) == self._mark:
            self._marked.set()


class Client:
    """Asks one server; to be used as a context."""

    def __init__(self, url: str, api: Api) -> None:
        self._api = api
        self._session = aiohttp.ClientSession(
            url,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
            read_bufsize=LINE_BYTES,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def start(self, ask: Ask, *, mark: int = 1) -> Stream:
        """Send a request; `mark` is the number of the line that `Stream.marked` waits for."""
        return Stream(self._session, self._api, ask, mark)

    async def ask(self, ask: Ask) -> Reply:
        return await self.start(ask).reply()

    async def ask_together(self, asks: Iterable[Ask]) -> Sequence[Reply]:
        """Answers to requests that are sent at the same time."""
        streams = [self.start(ask) for ask in asks]
        return await asyncio.gather(*(stream.reply() for stream in streams))


def _check(data: Json) -> None:
    if "error" in data:
        raise BenchFailed(f"the server answered with an error: {data['error']}")
