"""One streaming client for both servers: when does each line arrive, with how many tokens?

The two APIs differ only in their adapter. Lines get a time stamp when they arrive and are parsed
after the last one, so that the client takes little of the CPU time that it measures.
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
    """A request with a raw prompt, by default with greedy sampling."""

    prompt: str
    num_predict: int
    drawing: Mapping[str, float] = field(default_factory=lambda: {"temperature": 0, "top_k": 1})
    is_counted: bool = False  # each line has its number of tokens


@dataclass(frozen=True, slots=True)
class DraftCounts:
    """The drafts of one answer."""

    drafted: int
    accepted: int
    mean_length: float  # of a draft, in tokens

    @property
    def times(self) -> float:
        """The number of drafts."""
        return self.drafted / self.mean_length if self.drafted else 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """The content of one line of an answer."""

    text: str
    tokens: int  # 0 unless counts were requested
    usage: tuple[int, int] | None  # tokens of the prompt and of the answer; on the last line
    drafts: DraftCounts | None = None  # on the last line, if the server reports them


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer. Times are in seconds by one monotonic clock."""

    start_s: float
    arrivals_s: tuple[float, ...]  # of the lines with text or tokens
    texts: tuple[str, ...]  # of these lines
    counts: tuple[int, ...]  # tokens of these lines, if requested
    prompt_tokens: int
    tokens: int
    drafts: DraftCounts | None = None

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
    """The requests of a server's API, and the parsing of its lines."""

    @property
    def path(self) -> str: ...

    @property
    def opening(self) -> bytes:
        """The prefix of a line with data; other lines are separators or keep-alives."""
        ...

    def body(self, ask: Ask) -> Json: ...

    def read(self, line: bytes) -> Part: ...


@dataclass(frozen=True, slots=True)
class OutriderApi:
    """Ollama's raw generate (CONTRACT 1.2)."""

    model: str
    options: Json  # for loading the model

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
        report = data.get("speculation")
        fields = ("drafted", "accepted", "mean_length")
        drafts = DraftCounts(*(report[name] for name in fields)) if report else None
        tokens = len(data.get("logprobs") or ())
        return Part(data["response"], tokens, counts if data["done"] else None, drafts)


@dataclass(frozen=True, slots=True)
class PeerApi:
    """llama-server's own completion route, which sends each token on a line of its own; its prompt
    cache is on by default."""

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
    """One running request."""

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
        """Waits until line number `mark` has arrived, or the answer has ended."""
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
        return Reply(self._start_s, arrivals_s, texts, counts, *usage, parts[-1][1].drafts)

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
    """A client for one server; a context manager."""

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
        """Sends a request; `mark` is the number of the line that `Stream.marked` waits for."""
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
