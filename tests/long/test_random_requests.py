"""Random requests over all routes and dialects: no undefined 5xx, no traceback, no hang, no runner
that ends."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from daemons import Daemon, start_daemon
from long.dialects import DIALECTS
from long.log_faults import find_faults
from long.raw_http import HANG_S, RawReply, exchange
from long.request_mutation import Route, make_request
from long.sizes import SIZES
from outrider.daemon.api.error_table import INTERNAL
from outrider.daemon.runners.process import DIED
from scripted_models import import_scripted
from tiny import write_llama
from tiny_bert import write_bert
from weights import import_gguf

pytestmark = pytest.mark.long

AT_A_TIME = 8
ROUND = 500  # requests after which models that were deleted come back
MAX_SHOWN = 30
ERROR_CHARS = 10_000  # of an answer, whatever the client has sent
LOG_BYTES = 3_000  # that a request may leave in the log, on average
PER_REQUEST_S = 0.1  # on a busy machine

# The only texts that an answer of 500 or more may have (sections of CONTRACT).
DEFINED: tuple[tuple[int, str], ...] = (
    (500, r'option ".*" must be of (type|an array)'),  # 1.5
    (500, r"invalid format: "),  # 1.4
    (500, r"the input length exceeds the context length"),  # 1.11
    (500, r"llama-server process has terminated: "),  # 5.3
    (500, r"timed out waiting for llama-server to start"),  # 5.3
    (500, r".* needs at least .* which has room for"),  # 5.3
    (500, r"the template cannot be read: "),  # 1.2
    (500, r"pull model manifest: "),  # 1.16, without a stream
    (500, r"(unsupported quantization type|quantization is only supported) "),  # 7
    (501, r"images are not supported yet"),  # not in Ollama, which has models that see
    (503, r"server busy, please try again\.  maximum pending requests exceeded"),  # 5.2
    (503, r"account unavailable"),  # 1.19
)

LONG_ANSWER_S = 300.0  # for two times 40,960 tokens on a busy machine
WRITING = frozenset(dialect.path for dialect in DIALECTS)  # routes whose answers have tokens
TOKEN_LIMIT = re.compile(rb'"(num_predict|max_tokens|max_output_tokens)": \d{1,4}\b')


def may_take_long(route: Route, data: bytes) -> bool:
    """Whether a model may write for minutes: without a limit it goes on up to ten times its context
    (CONTRACT 1.4), which an earlier request may have made 4,096 tokens long."""
    return route.path in WRITING and not TOKEN_LIMIT.search(data)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    root = tmp_path / "models"
    import_gguf(root, "tiny", write_llama(tmp_path / "tiny.gguf", seed=1))
    import_gguf(root, "bert", write_bert(tmp_path / "bert.gguf"))
    import_scripted(root, tmp_path)
    nowhere = "http://127.0.0.1:9"  # requests find no network but their own port
    env = {
        "OUTRIDER_CONTEXT_LENGTH": "512",
        "OUTRIDER_MAX_LOADED_MODELS": "6",
        "PIP_NO_INDEX": "1",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
    }
    shutil.copytree(root, tmp_path / "kept")
    with start_daemon(root, tmp_path, env=env) as running:
        yield running


@dataclass
class Findings:
    """What the requests have shown."""

    statuses: Counter[int] = field(default_factory=Counter)
    undefined: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""

    def add(self, number: int, route: Route, reply: RawReply, *, wants_answer: bool) -> None:
        self.statuses[reply.status] += 1
        if reply.took_s > self.slowest_s:
            self.slowest_s, self.slowest = reply.took_s, f"{number} {route.path}"
        for fault in judge(route, reply, wants_answer=wants_answer):
            shown = f"request {number}: {route.method} {route.path}: {fault}"
            self.undefined[re.sub(r"\d+|\"[^\"]*\"|'[^']*'", "_", f"{route.path}: {fault}")] += 1
            if len(self.faults) < MAX_SHOWN:
                self.faults.append(shown)


def judge(route: Route, reply: RawReply, *, wants_answer: bool) -> Iterator[str]:
    """What is wrong with an answer."""
    if reply.hung:
        yield f"no byte for {reply.took_s:.0f} s, after {reply.body[:200]!r}"
    if wants_answer and not reply.status:
        yield f"no answer: {reply.body[:200]!r}"
    if not reply.status:
        return
    text = reply.body.decode("utf-8", "replace").partition("HTTP/1.1 ")[0]  # up to a second reply
    # aiohttp quotes in plain text a chunk that it cannot read; of it, it reads at most 256 KiB.
    if reply.status >= 400 and len(text) > ERROR_CHARS and "text/plain" not in reply.headers:
        yield f"an error of {len(text)} characters: {text[:200]}"
    for unwanted in (INTERNAL, "Traceback", DIED, "Server got itself in trouble"):
        if unwanted in text:
            yield f"{reply.status} {unwanted}: {text[:300]}"
            return
    if reply.status >= 500 and not is_defined(reply.status, text):
        yield f"undefined {reply.status}: {text[:300]}"
    if reply.is_whole and route.method != "HEAD":
        yield from judge_json(reply, text)


def judge_json(reply: RawReply, text: str) -> Iterator[str]:
    """Every JSON answer is one, by the strict grammar, line by line where it is streamed."""
    if "application/x-ndjson" in reply.headers:
        values = text.splitlines()
    elif "text/event-stream" in reply.headers:
        lines = text.splitlines()
        values = [line[6:] for line in lines if line.startswith("data: {")]
    elif "application/json" in reply.headers:
        values = [text]
    else:
        return
    for value in values:
        try:
            json.loads(value, parse_constant=_refuse)
        except ValueError as error:
            yield f"{reply.status} with bad JSON ({error}): {value[:200]!r}"
            return


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


def is_defined(status: int, text: str) -> bool:
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    error = answer.get("error", "")
    message = error.get("message", "") if isinstance(error, dict) else error
    return any(status == defined and re.match(words, message) for defined, words in DEFINED)


async def send_all(daemon: Daemon, numbers: range, findings: Findings) -> None:
    where = urlsplit(daemon.url)
    queue = iter(numbers)

    async def work() -> None:
        for number in queue:
            route, request = make_request(number, SIZES.seed)
            hang_s = LONG_ANSWER_S if may_take_long(route, request.data) else HANG_S
            reply = await exchange(where.hostname or "", where.port or 0, request, hang_s)
            wants_answer = request.is_complete and request.leaves_after_s is None
            findings.add(number, route, reply, wants_answer=wants_answer)

    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))


@pytest.mark.timeout(300 + PER_REQUEST_S * SIZES.requests)
def test_random_requests(daemon: Daemon, tmp_path: Path, measurements: list[str]) -> None:
    findings = Findings()
    for first in range(0, SIZES.requests, ROUND):
        last = min(first + ROUND, SIZES.requests)
        asyncio.run(send_all(daemon, range(first, last), findings))
        assert daemon.process.poll() is None, daemon.log.read_text()[-3000:]
        shutil.copytree(tmp_path / "kept", tmp_path / "models", dirs_exist_ok=True)
    assert daemon.get("/api/tags")[0] == 200
    assert (
        daemon.post("/api/generate", {"model": "talker", "prompt": "x", "stream": False})[0] == 200
    )
    died = daemon.log.read_text(errors="replace").count("ended with status")
    measurements.append(
        f"{SIZES.requests} random requests: statuses {dict(sorted(findings.statuses.items()))}, "
        f"faults {findings.undefined.total()}, dead runners {died}, "
        f"slowest {findings.slowest_s:.1f} s ({findings.slowest})"
    )
    for kind, count in findings.undefined.most_common(MAX_SHOWN):
        print(count, kind)
    logged = find_faults(daemon.log)
    log_bytes = daemon.log.stat().st_size // SIZES.requests
    measurements.append(f"{log_bytes} bytes of log for each random request")
    assert not findings.faults, "\n".join(findings.faults)
    assert not logged, "\n\n".join(logged)
    assert not died
    assert log_bytes < LOG_BYTES
