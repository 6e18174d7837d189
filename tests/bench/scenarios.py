"""What is measured of a server? Each scenario is one way of using it, and gives named figures.

Rates are in tokens per second, times in milliseconds, sizes in MiB; `report.ROWS` has the titles.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from .load import Ask, Client, Reply
from .neighbour import NEIGHBOURHOODS, busy_neighbours
from .servers import Server

MODEL = "smollm2:135m"

# Each word with the blank before it is one token in SmolLM2's vocabulary and most others.
WORDS = (
    "time people water light stone river house paper music story garden winter summer window "
    "market number letter family doctor school church street island forest mountain village "
    "kitchen animal picture morning evening silver golden little simple strong answer reason "
    "moment nature history science language country culture"
)
STREAMS = (1, 4, 8, 16)
NEIGHBOUR_TOKENS = 256  # of the stream beside busy neighbours: at least a second
CHATS = tuple(
    f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    for question in (
        *("What is the capital of France?", "Tell me a joke about cats.", "How do I boil an egg?"),
        *("Name three colours.", "Why is the sky blue?", "Write a haiku about rain."),
        *("What is 12 times 12?", "Explain gravity to a child."),
    )
)
"""Short chats that both servers have answered before."""
SLOTS = max(STREAMS)
SHARED_TOKENS = 1500  # of the prefix that several prompts share
LONG_TOKENS = 2000  # of a long prompt
STALL_STREAMS = 4
STALL_MARK = 16  # tokens of each stream before the long prompt arrives
TTFT_PREDICT = 4  # tokens

Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class Size:
    """The length of the measurements."""

    predict: int  # tokens of each stream
    repeats: int  # of short measurements
    sharers: int  # requests that share the start of their prompt
    stall_predict: int  # tokens of each stream that a long prompt disturbs
    stall_tokens: int  # of that prompt


FULL = Size(predict=128, repeats=10, sharers=8, stall_predict=192, stall_tokens=4000)
QUICK = Size(predict=48, repeats=5, sharers=4, stall_predict=128, stall_tokens=2000)


class Prompts:
    """Prompts that are in no server's cache; the same seed gives the same prompts."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._words = WORDS.split()

    def count(self) -> str:
        """About 30 tokens; the model continues counting up to its limit."""
        start = self._random.randrange(1000, 9000)
        return f"Counting up from {start}: {start}, {start + 1}, {start + 2},"

    def words(self, count: int) -> str:
        """About `count` tokens."""
        return " ".join(self._random.choices(self._words, k=count))

    def long(self, tokens: int) -> str:
        return f"{self.words(tokens - 30)}. {self.count()}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A server under measurement."""

    server: Server
    client: Client
    prompts: Prompts
    size: Size


Scenario = Callable[[Trial], Awaitable[Values]]


async def warm_up(trial: Trial) -> None:
    """Loads the model and runs every batch size once, outside the measurement."""
    for count in STREAMS:
        await trial.client.ask_together(Ask(trial.prompts.count(), 8) for _ in range(count))


def streams(count: int) -> Scenario:
    """All tokens per second, HTTP and prefill included; and the decode rate of each stream."""

    async def measure(trial: Trial) -> Values:
        asks = [Ask(trial.prompts.count(), trial.size.predict) for _ in range(count)]
        start_s = time.perf_counter()
        replies = await trial.client.ask_together(asks)
        took_s = time.perf_counter() - start_s
        _warn_short(replies, trial.size.predict)
        return {
            f"rate-{count}": sum(reply.tokens for reply in replies) / took_s,
            f"stream-rate-{count}": fmean(reply.decode_rate for reply in replies),
        }

    return measure


def neighbour(name: str) -> Scenario:
    """One stream beside busy processes: the rate inside the stream."""

    async def measure(trial: Trial) -> Values:
        with busy_neighbours(NEIGHBOURHOODS[name]):
            reply = await trial.client.ask(Ask(trial.prompts.count(), NEIGHBOUR_TOKENS))
        _warn_short([reply], NEIGHBOUR_TOKENS)
        return {f"neighbour-{name}": reply.decode_rate}

    return measure


def seen(count: int) -> Scenario:
    """So many of the known chats at once: all tokens per second, and the first tokens."""

    async def measure(trial: Trial) -> Values:
        for chat in CHATS:
            await trial.client.ask(Ask(chat, TTFT_PREDICT))
        asks = [Ask(chat, trial.size.predict) for chat in (CHATS * 2)[:count]]
        start_s = time.perf_counter()
        replies = await trial.client.ask_together(asks)
        took_s = time.perf_counter() - start_s
        return {
            f"seen-rate-{count}": sum(reply.tokens for reply in replies) / took_s,
            f"seen-ttft-{count}": _ms(median(reply.ttft_s for reply in replies)),
        }

    return measure


async def ttft_short(trial: Trial) -> Values:
    asks = [Ask(trial.prompts.count(), TTFT_PREDICT) for _ in range(trial.size.repeats)]
    return {"ttft-short": _ms(median(await _ttfts(trial.client, asks)))}


async def ttft_long(trial: Trial) -> Values:
    """Cold, as the prompt is new from its first token on; then the same prompt again."""
    ask = Ask(trial.prompts.long(LONG_TOKENS), TTFT_PREDICT)
    cold, *known = await _ttfts(trial.client, [ask] * (trial.size.repeats + 1))
    return {"ttft-long": _ms(cold), "ttft-repeat": _ms(median(known))}


async def ttft_shared(trial: Trial) -> Values:
    """Several requests share a prefix: one by one, and all at once."""
    return {
        "ttft-shared-idle": _ms(await _shared_idle(trial)),
        "ttft-shared-burst": _ms(await _shared_burst(trial)),
    }


async def _shared_idle(trial: Trial) -> float:
    """Each is sent after the answer to the last: one slot could serve them all."""
    asks = _sharers(trial)
    return fmean((await _ttfts(trial.client, asks))[1:])


async def _shared_burst(trial: Trial) -> float:
    """All are sent at once, each to a slot of its own; the first answer does not count."""
    replies = await trial.client.ask_together(_sharers(trial))
    return fmean(sorted(reply.ttft_s for reply in replies)[1:])


async def stall(trial: Trial) -> Values:
    """A long prompt arrives while others decode: how long is their longest gap?"""
    asks = [Ask(trial.prompts.count(), trial.size.stall_predict) for _ in range(STALL_STREAMS)]
    running = [trial.client.start(ask, mark=STALL_MARK) for ask in asks]
    for stream in running:
        await stream.marked()
    late = await trial.client.ask(Ask(trial.prompts.long(trial.size.stall_tokens), TTFT_PREDICT))
    replies = [await stream.reply() for stream in running]
    _warn_short(replies, trial.size.stall_predict)
    gaps = [reply.gaps_s[STALL_MARK // 2 :] for reply in replies]
    calm = [reply.gaps_s[: STALL_MARK - 1] for reply in replies]
    return {
        "stall": max(max(of_stream) / median(of_stream) for of_stream in gaps),
        "stall-calm": max(max(g) / median(c) for g, c in zip(gaps, calm, strict=True)),
        "stall-ttft": _ms(late.ttft_s),
    }


async def memory_loaded(trial: Trial) -> Values:
    return {"memory-loaded": trial.server.rss_bytes() / 2**20}


async def memory(trial: Trial) -> Values:
    return {"memory": trial.server.rss_bytes() / 2**20}


SCENARIOS: dict[str, Scenario] = {  # in the order of a run
    "memory-loaded": memory_loaded,
    **{f"streams-{count}": streams(count) for count in STREAMS},
    **{f"seen-{count}": seen(count) for count in STREAMS},
    **{f"neighbour-{name}": neighbour(name) for name in NEIGHBOURHOODS},
    "ttft-short": ttft_short,
    "ttft-long": ttft_long,
    "ttft-shared": ttft_shared,
    "stall": stall,
    "memory": memory,
}
TURNS = {"streams-1": 4, "streams-4": 2, **{f"neighbour-{name}": 3 for name in NEIGHBOURHOODS}}
"""Repetitions of short scenarios, which a busy neighbour may disturb from start to end."""
RATES = frozenset(f"streams-{count}" for count in STREAMS)


def mean(turns: Sequence[Values]) -> Values:
    """The mean of each figure over several turns."""
    return {name: fmean(values[name] for values in turns) for name in turns[0]}


def _sharers(trial: Trial) -> list[Ask]:
    system, count = trial.prompts.words(SHARED_TOKENS), trial.prompts.count
    prompts = (f"{system}. {count()}" for _ in range(trial.size.sharers))
    return [Ask(prompt, TTFT_PREDICT) for prompt in prompts]


async def _ttfts(client: Client, asks: Sequence[Ask]) -> list[float]:
    """Seconds to the first text of each request, sent one after another."""
    return [(await client.ask(ask)).ttft_s for ask in asks]


def _warn_short(replies: Sequence[Reply], num_predict: int) -> None:
    """Warns of streams that ended early: they make the batch smaller for the rest."""
    if early := sum(reply.tokens < num_predict for reply in replies):
        print(f"  {early} of {len(replies)} streams ended early", file=sys.stderr)


def _ms(seconds: float) -> float:
    return 1000 * seconds
