"""How fast is speculative decoding with a pair: plain, fixed, adaptive, llama-server's modes?

Rates are tokens per second of all streams together, while all of them run.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from outrider.daemon.cli import bench
from outrider.daemon.cli.bench import TimedAnswer
from outrider.daemon.cli.bench_prompts import ADAPTIVE, PLAIN, PROMPTS
from outrider.daemon.cli.client import DaemonError
from outrider.daemon.protocol import Load

from .bound import bound, saved_profile
from .failure import BenchFailed
from .load import Ask, Client, Reply
from .progress import tell
from .roster import Pair
from .scenarios import Values
from .servers import Server, start_outrider, start_peer

STREAMS = (1, 4, 8)
SLOTS = max(STREAMS)
TEMPERATURES = (0.0, 1.0)
FIXED = ("1", "2", "4")
OURS = (PLAIN, *FIXED, ADAPTIVE)
PEER_ALONE = (PLAIN, "ngram")  # without a drafter
PEER = (*PEER_ALONE, "2", "4")
NUM_CTX = 1024
WARM_TOKENS = 16
GREEDY = {"temperature": 0.0, "top_k": 1}
SAMPLED = {"temperature": 1.0, "top_k": 64, "top_p": 0.95, "min_p": 0.0}
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
NUMBER = "{number}"  # in a prompt: of the stream, so that no two are the same
SAME = "same"  # share of texts that are those of plain decoding
BOUND = "bound"  # speed-up of one stream that acceptance rates and costs allow
MISJUDGED = "ahead-misjudged"  # forecast errors as a share of the decoding time
COUNTER = re.compile(r"^outrider_(\w+)_decode_seconds_total{[^}]*} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cell:
    """Concurrent requests with prompts of one kind, at one temperature."""

    kind: str
    temperature: float
    streams: int

    @property
    def name(self) -> str:
        """Such as 4-chat-0."""
        return f"{self.streams}-{self.kind}-{self.temperature:g}"

    def key(self, way: str) -> str:
        """The key of a figure in the results; "ahead" as in saved files."""
        return f"ahead-{self.name}-{way}"

    def asks(
        self, predict: int, prompts: Mapping[str, str], drafting: Mapping[str, int]
    ) -> list[Ask]:
        prompt = prompts.get(self.kind) or CHAT.format(f"{NUMBER}. {PROMPTS[self.kind]}")
        return [
            Ask(
                prompt.replace(NUMBER, str(number)),
                predict,
                {**drawing, **drafting},
                is_counted=True,
            )
            for number in range(1, self.streams + 1)
            for drawing in [SAMPLED | {"seed": number} if self.temperature else GREEDY]
        ]


Replies = Mapping[str, Sequence[Reply]]  # by way
CELLS = tuple(Cell(k, t, s) for s, k, t in product(STREAMS, PROMPTS, TEMPERATURES))


@dataclass(frozen=True, slots=True)
class Side:
    """A running server, and the mode of speculative decoding that is requested of it."""

    server: Server
    way: str
    drafting: Mapping[str, int]
    prompts: Mapping[str, str]  # by kind, instead of the usual ones


def measure(
    plan: Load,
    store_root: Path,
    model: str,
    binary: Path,
    pair: Pair,
    cells: Sequence[Cell],
    num_runs: int,
    predict: int,
) -> Iterator[tuple[int, Values, Values]]:
    """The number of a run, from 0 on, and its figures of Outrider and of the peer, cell by cell.

    Within a cell all ways take turns, once a run, every other time in reverse order; so what is
    compared lies close together in time. `predict`: tokens of a stream that is alone; where there
    are several each gets fewer.
    """
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="outrider-speculation-"))
        )
        outrider = stack.enter_context(start_outrider(store_root, model, plan, folder))
        ours = [Side(outrider, way, _drafting(way), pair.prompts) for way in OURS]
        peers = [
            Side(
                stack.enter_context(_peer(binary, plan, folder, way, pair.spec_type)),
                way,
                {},
                pair.prompts,
            )
            for way in (PEER if plan.draft else PEER_ALONE)
        ]
        sides = [*ours, *peers]
        asyncio.run(_wake(sides))
        for cell in cells:
            start_s, tokens = time.monotonic(), round(predict / cell.streams ** (1 / 3))
            for number in range(num_runs):
                step = -1 if number % 2 else 1
                replies = asyncio.run(_take_turns(sides[::step], cell, tokens))[::step]
                by_way = dict(zip(OURS, replies, strict=False))
                figures = _figures(cell, by_way, folder) | {MISJUDGED: _misjudged(outrider)}
                of_peers = zip(peers, replies[len(ours) :], strict=True)
                yield number, figures, {cell.key(s.way): _rate(found) for s, found in of_peers}
            tell(f"  {cell.name:<20} {time.monotonic() - start_s:6.1f} s")


def _drafting(way: str) -> Mapping[str, int]:
    if way == ADAPTIVE:
        return {}
    return {"draft_num_predict": 0} if way == PLAIN else {"draft_fixed": int(way)}


@contextmanager
def _peer(binary: Path, plan: Load, folder: Path, way: str, spec_type: str) -> Iterator[Server]:
    """In a folder of its own, for its log."""
    own = folder / way
    own.mkdir()
    with start_peer(binary, plan, own, _flags(plan, way, spec_type)) as server:
        yield server


def _flags(plan: Load, way: str, spec_type: str) -> Sequence[str]:
    if way == PLAIN:
        return ()
    if way == "ngram":
        return ("--spec-type", "ngram-simple")
    drafter = ("-md", plan.draft, "-ngld", "all")
    return ("--spec-type", spec_type, "--spec-draft-n-max", way, *drafter)


async def _wake(sides: Sequence[Side]) -> None:
    """Whatever is done at a first request is done now."""
    for side in sides:
        await _ask(side, Cell("json", 0.0, SLOTS).asks(WARM_TOKENS, side.prompts, side.drafting))


async def _take_turns(sides: Sequence[Side], cell: Cell, tokens: int) -> list[Sequence[Reply]]:
    """The answers of each side, after its prompts have been brought into the caches of both
    models."""
    replies = []
    for side in sides:
        warming = {"draft_fixed": 1} if side.way == ADAPTIVE else side.drafting
        await _ask(side, cell.asks(WARM_TOKENS, side.prompts, warming))
        replies.append(await _ask(side, cell.asks(tokens, side.prompts, side.drafting)))
    return replies


def _figures(cell: Cell, replies: Replies, cache_home: Path) -> Values:
    """Of Outrider's ways."""
    figures = {cell.key(way): _rate(of_way) for way, of_way in replies.items()}
    figures[cell.key(SAME)] = _same(replies)
    if cell.streams == 1:
        fixed = [reply for way in FIXED for reply in replies[way]]
        figures[cell.key(BOUND)] = bound(fixed, saved_profile(cache_home))
    return figures


def _same(replies: Replies) -> float:
    """Share of the texts that are those of plain decoding."""
    plain, *others = ([reply.texts for reply in replies[way]] for way in OURS)
    same = ["".join(a) == "".join(b) for other in others for a, b in zip(other, plain, strict=True)]
    return sum(same) / len(same)


async def _ask(side: Side, asks: Sequence[Ask]) -> Sequence[Reply]:
    async with Client(side.server.url, side.server.api) as client:
        return await client.ask_together(asks)


def _rate(replies: Sequence[Reply]) -> float:
    heard = [
        TimedAnswer(reply.tokens, tuple(zip(reply.arrivals_s, reply.counts, strict=True)))
        for reply in replies
    ]
    try:
        return bench.rate(heard)
    except DaemonError as error:
        raise BenchFailed(str(error)) from error


def _misjudged(outrider: Server) -> float:
    """By how much the steps took longer or shorter than was expected of them."""
    with urllib.request.urlopen(f"{outrider.url}/metrics", timeout=5) as response:
        counters = dict(COUNTER.findall(response.read().decode()))
    return float(counters["misjudged"]) / float(counters["expected"])
