"""What is measured of a server: each scenario is one way of using it, and gives named figures.

Rates are tokens per second, times milliseconds, sizes MiB; `report.ROWS` says what they mean.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from .load import Ask, Client, Reply
from .servers import Server

# Each is one token with the blank before it, in SmolLM2's vocabulary and most others.
WORDS = (
    "time people water light stone river house paper music story garden winter summer window "
    "market number letter family doctor school church street island forest mountain village "
    "kitchen animal picture morning evening silver golden little simple strong answer reason "
    "moment nature history science language country culture"
)
STREAMS = (1, 4, 8, 16)
SLOTS = max(STREAMS)
SHARERS = 8
SHARED_TOKENS = 1500
LONG_TOKENS = 2000
STALL_STREAMS = 4
STALL_TOKENS = 4000
STALL_MARK = 16  # tokens of each stream before the long prompt arrives
TTFT_PREDICT = 4
SETTLE_S = 0.3  # after hanging up: the slots are free again

Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class Size:
    """How long to measure."""

    predict: int  # tokens of each stream
    short_repeats: int
    long_repeats: int
    stall_predict: int


FULL = Size(predict=128, short_repeats=10, long_repeats=3, stall_predict=256)
QUICK = Size(predict=48, short_repeats=5, long_repeats=1, stall_predict=160)


class Prompts:
    """Texts that no server has seen before; the same seed gives the same texts."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._words = WORDS.split()

    def story(self) -> str:
        """Under 20 tokens; what SmolLM2 says to it does not end soon."""
        year = self._random.randrange(100, 10000)
        hero, place = self._random.sample(self._words, 2)
        return f"The {hero} of the {place}, in the year {year}, was known as"

    def words(self, count: int) -> str:
        """About `count` tokens."""
        return " ".join(self._random.choices(self._words, k=count))

    def long(self, tokens: int) -> str:
        return f"{self.words(tokens - 20)}. {self.story()}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A server under measurement."""

    server: Server
    client: Client
    prompts: Prompts
    size: Size


Scenario = Callable[[Trial], Awaitable[Values]]


async def warm_up(trial: Trial) -> None:
    """Load the model and run the shapes of every batch once; nothing of it counts."""
    for count in STREAMS:
        await trial.client.ask_together(Ask(trial.prompts.story(), 8) for _ in range(count))


async def streams(trial: Trial) -> Values:
    """All tokens by all time, HTTP and prompts included; and the rate inside each stream."""
    values: Values = {}
    for count in STREAMS:
        asks = [Ask(trial.prompts.story(), trial.size.predict) for _ in range(count)]
        start_s = time.perf_counter()
        replies = await trial.client.ask_together(asks)
        took_s = time.perf_counter() - start_s
        _warn_short(replies, trial.size.predict)
        values[f"rate-{count}"] = sum(reply.tokens for reply in replies) / took_s
        values[f"stream-rate-{count}"] = fmean(reply.decode_rate for reply in replies)
    return values


async def ttft_short(trial: Trial) -> Values:
    asks = [Ask(trial.prompts.story(), TTFT_PREDICT) for _ in range(trial.size.short_repeats)]
    return {"ttft-short": _ms(median(await _ttfts(trial.client, asks)))}


async def ttft_long(trial: Trial) -> Values:
    """Cold: each text is new from its first word on."""
    texts = [trial.prompts.long(LONG_TOKENS) for _ in range(trial.size.long_repeats)]
    asks = [Ask(text, TTFT_PREDICT) for text in texts]
    return {"ttft-long": _ms(median(await _ttfts(trial.client, asks)))}


async def ttft_repeat(trial: Trial) -> Values:
    """The long prompt again, once it is known."""
    ask = Ask(trial.prompts.long(LONG_TOKENS), TTFT_PREDICT)
    known = await _ttfts(trial.client, [ask] * (trial.size.short_repeats + 1))
    return {"ttft-repeat": _ms(median(known[1:]))}


async def ttft_shared(trial: Trial) -> Values:
    """Eight requests share the start of their prompt: three ways for them to arrive."""
    return {
        "ttft-shared-idle": _ms(await _shared_idle(trial)),
        "ttft-shared-busy": _ms(await _shared_busy(trial)),
        "ttft-shared-burst": _ms(await _shared_burst(trial)),
    }


async def _shared_idle(trial: Trial) -> float:
    """Each comes when the one before is answered: one slot could serve them all."""
    asks = _sharers(trial.prompts, TTFT_PREDICT)
    return fmean((await _ttfts(trial.client, asks))[1:])


async def _shared_busy(trial: Trial) -> float:
    """Each comes while all before it still decode: every one needs a slot of its own."""
    running = []
    for ask in _sharers(trial.prompts, trial.size.stall_predict):
        running.append(trial.client.start(ask))
        await running[-1].marked()
    ttfts_s = [stream.first_s() for stream in running]
    for stream in running:
        await stream.cancel()
    await asyncio.sleep(SETTLE_S)
    return fmean(ttfts_s[1:])


async def _shared_burst(trial: Trial) -> float:
    """All come at once; the one that is answered first does not count."""
    replies = await trial.client.ask_together(_sharers(trial.prompts, TTFT_PREDICT))
    return fmean(sorted(reply.ttft_s for reply in replies)[1:])


async def stall(trial: Trial) -> Values:
    """A long prompt arrives while others decode: how much longer is their longest wait?"""
    asks = [Ask(trial.prompts.story(), trial.size.stall_predict) for _ in range(STALL_STREAMS)]
    running = [trial.client.start(ask, mark=STALL_MARK) for ask in asks]
    for stream in running:
        await stream.marked()
    late = await trial.client.ask(Ask(trial.prompts.long(STALL_TOKENS), TTFT_PREDICT))
    replies = [await stream.reply() for stream in running]
    _warn_short(replies, trial.size.stall_predict)
    gaps = [reply.gaps_s[STALL_MARK // 2 :] for reply in replies]
    return {
        "stall": max(max(of_stream) / median(of_stream) for of_stream in gaps),
        "stall-ttft": _ms(late.ttft_s),
    }


async def memory_loaded(trial: Trial) -> Values:
    return {"memory-loaded": trial.server.rss_bytes() / 2**20}


async def memory(trial: Trial) -> Values:
    return {"memory": trial.server.rss_bytes() / 2**20}


SCENARIOS: dict[str, Scenario] = {  # in the order of a run
    "memory-loaded": memory_loaded,
    "streams": streams,
    "ttft-short": ttft_short,
    "ttft-long": ttft_long,
    "ttft-repeat": ttft_repeat,
    "ttft-shared": ttft_shared,
    "stall": stall,
    "memory": memory,
}


def _sharers(prompts: Prompts, num_predict: int) -> list[Ask]:
    system = prompts.words(SHARED_TOKENS)
    return [Ask(f"{system}. {prompts.story()}", num_predict) for _ in range(SHARERS)]


async def _ttfts(client: Client, asks: Sequence[Ask]) -> list[float]:
    """Seconds to the first text of each, one request after another."""
    return [(await client.ask(ask)).ttft_s for ask in asks]


def _warn_short(replies: Sequence[Reply], num_predict: int) -> None:
    """Rates count the tokens that came; streams that ended early still thin out the batch."""
    if early := sum(reply.tokens < num_predict for reply in replies):
        print(f"  {early} of {len(replies)} streams ended early", file=sys.stderr)


def _ms(seconds: float) -> float:
    return 1000 * seconds
