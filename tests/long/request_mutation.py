"""Which requests are sent at random? Valid ones, changed in a few places, over every route.

Each request follows from its number and the seed alone, so that one that finds a fault can be sent
again by itself.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from long.raw_http import RawRequest

Json = Any
MODELS = ("tiny", "talker", "caller", "router", "bert")
TOKENS = 6
SHA = "sha256:" + "0" * 64
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"


@dataclass(frozen=True, slots=True)
class Route:
    """A method, a path, and the body of a request that would be served."""

    method: str
    path: str
    body: Callable[[random.Random], Json] = lambda _: None
    weight: int = 1


def _text(draw: random.Random) -> str:
    return draw.choice(("hello", "What is the weather in Paris?", "tell a joke", "a person", "x"))


def _options(draw: random.Random) -> Json:
    some = {
        "temperature": draw.choice((0, 0.8, 1)),
        "seed": draw.randrange(99),
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_last_n": 64,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "stop": ["\n\n"],
        "num_keep": 4,
        "mirostat": 0,
    }
    chosen = draw.sample(sorted(some), draw.randrange(4))
    return {"num_predict": TOKENS} | {name: some[name] for name in chosen}


def _history(draw: random.Random) -> list[Json]:
    history = [{"role": "system", "content": "be kind"}] if draw.random() < 0.3 else []
    if draw.random() < 0.3:
        call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
        history += [
            {"role": "user", "content": _text(draw)},
            {"role": "assistant", "content": "", "thinking": "well", "tool_calls": [call]},
            {"role": "tool", "content": "21", "tool_name": "get_weather", "tool_call_id": "c1"},
        ]
    return [*history, {"role": "user", "content": _text(draw)}]


def _native(draw: random.Random) -> dict[str, Json]:
    return {
        "model": draw.choice(MODELS),
        "stream": draw.random() < 0.5,
        "options": _options(draw),
        "keep_alive": draw.choice(("5m", 300, -1)),
        **draw.choice(({}, {}, {"format": "json"}, {"format": SCHEMA}, {"think": False})),
        **draw.choice(({}, {}, {"logprobs": True, "top_logprobs": 3}, {"truncate": False})),
    }


def _generate(draw: random.Random) -> Json:
    more = ({}, {"raw": True}, {"system": "be brief"}, {"context": [1, 2, 3]}, {"suffix": "end"})
    extra = draw.choice((*more, {"template": "{{ .Prompt }}"}, {"images": [PNG]}))
    return _native(draw) | {"prompt": _text(draw)} | extra


def _chat(draw: random.Random) -> Json:
    extra = draw.choice(({}, {"tools": [TOOL]}, {"shift": False}, {"_debug_render_only": True}))
    return _native(draw) | {"messages": _history(draw)} | extra


def _embed(draw: random.Random) -> Json:
    inputs = draw.choice(("hello", ["a", "b"], [], "", ["x"] * 20))
    return {
        "model": draw.choice(("bert", "bert", "tiny")),
        "input": inputs,
        **draw.choice(({}, {"dimensions": 8}, {"truncate": False}, {"keep_alive": "5m"})),
    }


def _embeddings(draw: random.Random) -> Json:
    return {"model": "bert", "prompt": _text(draw), "options": {}}


def _openai(draw: random.Random) -> dict[str, Json]:
    return {
        "model": draw.choice(MODELS),
        "stream": draw.random() < 0.5,
        "max_tokens": TOKENS,
        "temperature": draw.choice((0, 1)),
        **draw.choice(({}, {"n": 2}, {"stop": ["a"]}, {"seed": 4}, {"top_p": 0.5})),
        **draw.choice(({}, {"stream_options": {"include_usage": True}}, {"logit_bias": {"5": 3}})),
    }


def _openai_chat(draw: random.Random) -> Json:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    parts = [{"type": "text", "text": _text(draw)}]
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    content = draw.choice((_text(draw), parts, [*parts, image]))
    extra = draw.choice(
        (
            {},
            {"tools": [TOOL], "tool_choice": draw.choice(("auto", "none", "required"))},
            {"response_format": {"type": "json_object"}},
            {"response_format": schema},
            {"logprobs": True, "top_logprobs": 2},
            {"reasoning_effort": "low"},
        )
    )
    return _openai(draw) | {"messages": [{"role": "user", "content": content}]} | extra


def _openai_text(draw: random.Random) -> Json:
    extra = draw.choice(({}, {"logprobs": 2}, {"echo": True}, {"suffix": "x"}))
    return _openai(draw) | {"prompt": draw.choice(("a", ["a", "b"]))} | extra


def _openai_embeddings(draw: random.Random) -> Json:
    return {
        "model": "bert",
        "input": draw.choice(("a", ["a", "b"])),
        "encoding_format": draw.choice(("float", "base64")),
    }


def _responses(draw: random.Random) -> Json:
    item = {"role": "user", "content": [{"type": "input_text", "text": _text(draw)}]}
    call = {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "21"}
    tool = {"type": "function", **TOOL["function"]}  # type: ignore[dict-item]
    return {
        "model": draw.choice(MODELS),
        "input": draw.choice((_text(draw), [item], [item, call, output])),
        "stream": draw.random() < 0.5,
        "max_output_tokens": TOKENS,
        **draw.choice(({}, {"tools": [tool]}, {"instructions": "be brief"}, {"reasoning": {}})),
    }


def _messages(draw: random.Random) -> Json:
    call = {"type": "tool_use", "id": "t", "name": "get_weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "21"}
    turns = [
        {"role": "user", "content": _text(draw)},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, {"type": "text", "text": "well?"}]},
    ]
    tool = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
    return {
        "model": draw.choice(MODELS),
        "max_tokens": TOKENS,
        "messages": turns[: draw.choice((1, 3))],
        "stream": draw.random() < 0.5,
        **draw.choice(({}, {"system": "be kind"}, {"tools": [tool]}, {"stop_sequences": ["x"]})),
        **draw.choice(({}, {"thinking": {"type": "enabled", "budget_tokens": 1024}})),
    }


def _systemone(draw: random.Random) -> Json:
    choice = {"type": "choice", "instructions": "which?", "criteria": {"a": None, "b": "the b"}}
    score = {"type": "score", "instructions": "how?", "criteria": ["low", "high"]}
    truth = {"type": "noul", "instructions": "is it?"}
    return {
        "model": draw.choice(("tiny", "talker")),
        "state": draw.choice(("a text", {"a": 1}, [1, 2])),
        "questions": draw.choice(({"q": choice}, {"q": score, "r": truth})),
    }


ROUTES = (
    Route("POST", "/api/generate", _generate, 8),
    Route("POST", "/api/chat", _chat, 10),
    Route("POST", "/api/embed", _embed, 4),
    Route("POST", "/api/embeddings", _embeddings, 2),
    Route("POST", "/v1/chat/completions", _openai_chat, 10),
    Route("POST", "/v1/completions", _openai_text, 6),
    Route("POST", "/v1/embeddings", _openai_embeddings, 3),
    Route("POST", "/v1/responses", _responses, 8),
    Route("POST", "/v1/messages", _messages, 8),
    Route("POST", "/v1/messages/count_tokens", _messages, 2),
    Route("POST", "/v1/systemone", _systemone, 4),
    Route("POST", "/api/show", lambda d: {"model": d.choice(MODELS), "verbose": True}, 4),
    Route("POST", "/api/plan", lambda d: {"model": d.choice(MODELS), "options": {}}, 3),
    Route(
        "POST", "/api/copy", lambda d: {"source": d.choice(MODELS), "destination": "new/copy"}, 2
    ),
    Route("DELETE", "/api/delete", lambda _: {"model": "new/copy"}, 2),
    Route(
        "POST",
        "/api/create",
        lambda d: {
            "model": "new/made",
            "from": "tiny",
            "stream": d.random() < 0.5,
            "system": "be",
            "parameters": {"temperature": 1, "stop": ["x"]},
            **d.choice(({}, {"template": "{{ .Prompt }}"}, {"license": ["MIT"]}, {"files": {}})),
            **d.choice(({}, {"messages": [{"role": "user", "content": "x"}]}, {"quantize": ""})),
        },
        4,
    ),
    Route(
        "POST",
        "/api/pull",
        lambda d: {"model": "127.0.0.1:9/a/b:c", "insecure": True, "stream": d.random() < 0.5},
        2,
    ),
    Route("POST", "/api/push", lambda _: {"model": "127.0.0.1:9/a/b:c", "insecure": True}, 2),
    Route("POST", f"/api/blobs/{SHA}", lambda _: {"x": 1}, 1),
    Route("HEAD", f"/api/blobs/{SHA}"),
    Route("POST", "/api/me"),
    Route("POST", "/api/signout"),
    Route("POST", "/api/experimental/web_search", lambda _: {"query": "x"}),
    Route("POST", "/api/experimental/web_fetch", lambda _: {"url": "http://x"}),
    Route("GET", "/api/experimental/model-recommendations"),
    Route("GET", "/"),
    Route("GET", "/api/tags", weight=2),
    Route("GET", "/api/ps", weight=2),
    Route("GET", "/api/version"),
    Route("GET", "/api/status"),
    Route("GET", "/api/snapshot"),
    Route("GET", "/metrics"),
    Route("GET", "/openapi.json"),
    Route("GET", "/ui"),
    Route("GET", "/v1/models"),
    Route("GET", "/v1/models/tiny"),
)

STRINGS: Sequence[str] = (
    *("", " ", "\0", "\n", "\r\n", "\x1b[31m", "\u202e", "\ufeff", "\ud83d", "\udc00\ud800"),
    *("null", "true", "NaN", "0", "-1", "1e999", "{}", "[]", "../../etc/passwd", "%00", "%n%s"),
    *("a/b/c/d/e", "a:b:c", ":", "/", "\\", "hf.co/x/y", "x:cloud", "tiny:local", "TINY"),
    *("{{ 9 ** 9 }}", "{% for", "{{ .Prompt }", "<|im_start|>", "<|im_end|>", "<think>"),
    *("<tool_call>", "(?<=x)", "[[[[", "a" * 300, "é" * 300, "x" * 70_000, "\U0001f600" * 2_000),
    *(
        "data:image/png;base64,",
        "low",
        "json",
        "enabled",
        "function",
        "tool",
        "system",
        "5m",
        "-1ns",
    ),
)
NUMBERS: Sequence[Json] = (
    *(0, -0.0, 1, -1, 2, 3.5, 1e-300, 1e300, 127, 255, 256, 65_535, 65_536),
    *(2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30),
)
# Options that load the model again: rare, as each takes a second.
LOADING = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "num_keep")
RAW_VALUES = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1" * 600,
    "0x10",
    "01",
    "1.",
    ".5",
)
RAW_VALUES += ("'a'", "undefined", "\\", '"\\ud800"', '"\\u00"', "[" * 5_000, '{"a":' * 3_000)
HOLE = "\uf8ff"  # stands in a body for a raw value


def make_request(number: int, seed: int) -> tuple[Route, RawRequest]:
    """The request of this number."""
    draw = random.Random(f"{seed} {number}")
    (route,) = draw.choices(ROUTES, [route.weight for route in ROUTES])
    body = copy.deepcopy(route.body(draw))
    for _ in range(draw.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        body = mutate(body, draw)
    return route, make_raw(route, _encode(body, draw), draw)


def mutate(value: Json, draw: random.Random) -> Json:
    """The value, changed in one place."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        return _mutate_object(dict(value), draw)
    if isinstance(value, list) and value and draw.random() < 0.85:
        return _mutate_list(list(value), draw)
    return make_value(draw, value)


def _mutate_object(value: dict[str, Json], draw: random.Random) -> Json:
    key = draw.choice(sorted(value))
    action = draw.randrange(12)
    if action == 0:
        del value[key]
    elif action == 1:
        value[key.upper()] = value.pop(key)
    elif action == 2:
        value[draw.choice(STRINGS[:40])] = make_value(draw)
    elif action == 3 and "options" in value and isinstance(value["options"], dict):
        value["options"] = value["options"] | {draw.choice(LOADING): make_value(draw)}
    elif action == 4:
        value[key] = [value[key]]
    elif action == 5:
        value[key] = {key: value[key]}
    else:
        value[key] = mutate(value[key], draw)
    return value


def _mutate_list(value: list[Json], draw: random.Random) -> Json:
    at = draw.randrange(len(value))
    action = draw.randrange(8)
    if action == 0:
        del value[at]
    elif action == 1:
        return value * draw.choice((2, 30, 300))
    elif action == 2:
        value.insert(at, make_value(draw))
    elif action == 3:
        value.reverse()
    else:
        value[at] = mutate(value[at], draw)
    return value


def make_value(draw: random.Random, old: Json = None) -> Json:
    """A value of any type; often of that of the old one."""
    kind = draw.randrange(10)
    if kind < 3 and isinstance(old, str):
        at = draw.randrange(len(old) + 1)
        return old[:at] + draw.choice(STRINGS) + old[at:]
    if kind < 5:
        return draw.choice(NUMBERS)
    if kind < 8:
        return draw.choice(STRINGS)
    return draw.choice((None, True, False, [], {}, [[]], [None], {"": None}, HOLE, HOLE))


def _encode(body: Json, draw: random.Random) -> bytes:
    """The bytes of a body, which may be damaged."""
    if body is None:
        return b""
    text = json.dumps(body, ensure_ascii=draw.random() < 0.5)
    while f'"{HOLE}"' in text or json.dumps(HOLE) in text:
        raw = draw.choice(RAW_VALUES)
        text = text.replace(f'"{HOLE}"', raw, 1).replace(json.dumps(HOLE), raw, 1)
    data = text.encode("utf-8", "surrogatepass")
    action = draw.randrange(40)
    if action == 0:
        return data[: draw.randrange(len(data) + 1)]
    if action == 1:
        return b"\xef\xbb\xbf" + data
    if action == 2:
        at = draw.randrange(len(data) + 1)
        return data[:at] + draw.randbytes(draw.randrange(1, 5)) + data[at:]
    if action == 3:
        return data + data
    if action == 4:
        return draw.randbytes(draw.randrange(200))
    if action == 5:
        return draw.choice((b"null", b"[]", b'""', b"0", b"true", b" " * 5_000, b"[" * 100_000))
    return data


def make_raw(route: Route, body: bytes, draw: random.Random) -> RawRequest:
    """The request as bytes; one in ten is faulty as HTTP, or its client leaves."""
    headers = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    if route.method in ("GET", "HEAD"):
        del headers["Content-Length"]
        body = b""
    first = f"{route.method} {route.path} HTTP/1.1"
    action = draw.randrange(100)
    if action >= 14:
        return RawRequest(_join(first, headers, body))
    return _FAULTS[action % len(_FAULTS)](route, headers, body, draw)


Fault = Callable[[Route, dict[str, str], bytes, random.Random], RawRequest]


def _join(first: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def _leaves(route: Route, headers: dict[str, str], body: bytes, draw: random.Random) -> RawRequest:
    data = _join(f"{route.method} {route.path} HTTP/1.1", headers, body)
    return RawRequest(data, leaves_after_s=draw.uniform(0, 0.3))


def _cut(route: Route, headers: dict[str, str], body: bytes, draw: random.Random) -> RawRequest:
    data = _join(f"{route.method} {route.path} HTTP/1.1", headers, body)
    return RawRequest(data[: draw.randrange(len(data))], is_complete=False)


def _odd_path(
    route: Route, headers: dict[str, str], body: bytes, draw: random.Random
) -> RawRequest:
    ends = ("%0a", "%0d%0a", "/", "//", "/..", "/%2e%2e/", "?a=%ff", "%ff", "%00", "#x", ";x", "%")
    path = route.path + draw.choice((*ends, "/" * 500, "%5c", "?" + "a=b&" * 900))
    return RawRequest(_join(f"{route.method} {path} HTTP/1.1", headers, body))


def _odd_line(
    route: Route, headers: dict[str, str], body: bytes, draw: random.Random
) -> RawRequest:
    path = route.path
    lines = (f"{route.method.lower()} {path} HTTP/1.1", f"BREW {path} HTTP/1.1", f"GET {path}")
    lines += (f"{route.method} {path} HTTP/9.9", f"{route.method}  {path} HTTP/1.1", "\0\0\0\0")
    lines += (f"OPTIONS {path} HTTP/1.1", f"TRACE {path} HTTP/1.1", f"PATCH {path} HTTP/1.1")
    lines += (f"{route.method} http://localhost{path} HTTP/1.1", f"CONNECT {path} HTTP/1.1")
    line = draw.choice((*lines, f"GET {'/a' * 40_000} HTTP/1.1", f"{route.method} * HTTP/1.1"))
    return RawRequest(_join(line, headers, body))


def _odd_header(
    route: Route, headers: dict[str, str], body: bytes, draw: random.Random
) -> RawRequest:
    name, value = draw.choice(
        (
            *(("Content-Length", "-1"), ("Content-Length", "1e3"), ("Content-Length", "9" * 30)),
            *(("Transfer-Encoding", "gzip"), ("Content-Encoding", "gzip"), ("Host", "evil.com")),
            *(("Content-Encoding", "zstd"), ("Content-Encoding", "deflate"), ("Host", "[::1")),
            *(("Content-Encoding", "br"), ("Expect", "100-continue"), ("Expect", "nonsense")),
            *(("Origin", "http://evil.com"), ("Origin", "null"), ("X-Request-Id", "\x1b[2J" * 50)),
            *(
                ("Content-Type", "\xff"),
                ("Accept-Encoding", "gzip"),
                ("Cookie", "a=" + "b" * 9_000),
            ),
            *(("A b", "c"), ("", "x"), ("Range", "bytes=0-"), ("Upgrade", "websocket")),
            *(("X" * 70_000, "c"), ("X-Y", "z" * 70_000), ("Authorization", "Bearer \xff")),
        )
    )
    waits = name == "Content-Length" and len(value) > 20
    data = _join(f"{route.method} {route.path} HTTP/1.1", headers | {name: value}, body)
    return RawRequest(data, is_complete=not waits)


def _chunked(route: Route, headers: dict[str, str], body: bytes, draw: random.Random) -> RawRequest:
    headers = {name: value for name, value in headers.items() if name != "Content-Length"}
    headers |= {"Transfer-Encoding": "chunked"}
    size = f"{len(body):x}".encode()
    chunks = draw.choice(
        (
            size + b"\r\n" + body + b"\r\n0\r\n\r\n",
            size + b";a=b\r\n" + body + b"\r\n0\r\nX: y\r\n\r\n",
            b"zz\r\n" + body,
            b"-5\r\n" + body + b"\r\n0\r\n\r\n",
            b"f" * 40 + b"\r\n" + body,
            size + b"\r\n" + body + b"0\r\n\r\n",
        )
    )
    is_complete = chunks.endswith(b"\r\n0\r\n\r\n") or b"X: y" in chunks
    data = _join(f"POST {route.path} HTTP/1.1", headers, chunks)
    return RawRequest(data, is_complete=is_complete)


def _twice(route: Route, headers: dict[str, str], body: bytes, draw: random.Random) -> RawRequest:
    """Two requests in one go; the second one must not be lost."""
    first = _join(
        f"{route.method} {route.path} HTTP/1.1", headers | {"Connection": "keep-alive"}, body
    )
    second = _join("GET /api/version HTTP/1.1", {"Host": "localhost", "Connection": "close"})
    return RawRequest(first + second)


_FAULTS: Sequence[Fault] = (_leaves, _cut, _odd_path, _odd_line, _odd_header, _chunked, _twice)
