"""How does `outrider top` read: one snapshot of the daemon as lines of text?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from . import humanize

Json = Mapping[str, Any]
PARTS = {  # fields of a device
    "weights_bytes": "weights",
    "cache_bytes": "KV cache",
    "compute_bytes": "compute",
    "drafter_bytes": "drafter",
    "adapter_bytes": "adapters",
}
LEFT = 499  # status of a request whose client closed the connection
NONE = "-"
DEPTHS = 8  # depths of a draft that are shown
ROW_COUNTS = 6  # row counts whose cost is shown
COLUMNS = (  # of the requests: title, width, whether it is aligned to the right
    *(("TIME", 8, False), ("ROUTE", 20, False), ("MODEL", 14, False), ("STATUS", 8, False)),
    *(("TOOK", 6, True), ("FIRST", 6, True), ("TOKENS", 6, True), ("/S", 5, True)),
)


def render(now: Json, before: Json | None, *, width: int = 80, height: int | None = None) -> str:
    """The lines, at most `height` of `width` characters. Rates need a snapshot from before."""
    lines = [_head(now, before)]
    for model in now["models"]:
        lines.extend(("", *_model(model, now, before)))
    if not now["models"]:
        lines.extend(("", "No model is loaded; a request loads one: outrider run MODEL"))
    lines.extend(("", *_requests([*reversed(now["running"]), *now["recent"]])))
    return "\n".join(line[:width].rstrip() for line in lines[:height])


def _head(now: Json, before: Json | None) -> str:
    texts = [model for model in now["models"] if not model["is_embedding"]]
    waiting = sum(model["waiting"] for model in texts) + now["waiting_for_load"]
    busy, slots = (sum(model[name] for model in texts) for name in ("slots_busy", "slots"))
    rates = [rate for model in texts if (rate := _rate(model, now, before)) is not None]
    speed = f"{sum(rates):.1f} tokens/s" if rates else f"{NONE} tokens/s"
    return (
        f"Outrider {now['version']}  up {humanize.countdown(now['uptime_s'])}  {speed}  "
        f"slots {busy}/{slots}  waiting {waiting}  memory {humanize.memory(_taken(now))}"
    )


def _taken(now: Json) -> int:
    devices = (device for model in now["models"] for device in model["devices"])
    return sum(device[part] for device in devices for part in PARTS)


def _rate(model: Json, now: Json, before: Json | None) -> float | None:
    """Decoded tokens per second since the snapshot before; None: it does not tell."""
    if before is None or now["clock_s"] <= before["clock_s"]:
        return None
    same = ("name", "is_embedding")
    for old in before["models"]:
        if all(old[key] == model[key] for key in same):
            decoded = model["decoded_tokens"] - old["decoded_tokens"]
            return float(decoded / (now["clock_s"] - before["clock_s"])) if decoded >= 0 else None
    return None


def _model(model: Json, now: Json, before: Json | None) -> Iterator[str]:
    rate = _rate(model, now, before)
    speed = NONE if rate is None else f"{rate:.1f}"
    yield f"{printable(model['name'])}  {_expiry(model)}"
    if not model["is_embedding"]:
        yield (
            f"  {speed} tokens/s  slots {model['slots_busy']}/{model['slots']}  waiting "
            f"{model['waiting']}  cells {model['cells_used']:,}/{model['cells']:,}  "
            f"decoded {model['decoded_tokens']:,}"
        )
    for device in model["devices"]:
        parts = ", ".join(
            f"{name} {humanize.memory(device[part])}"
            for part, name in PARTS.items()
            if device[part]
        )
        yield f"  {device['device']}: {parts or NONE}"
    if speculation := model["speculation"]:
        yield from _speculation(speculation)
    for text in model["warnings"]:
        yield f"  warning: {printable(text)}"


def _expiry(model: Json) -> str:
    if model["leases"]:
        return f"in use by {model['leases']}"
    left_s = model["expires_in_s"]
    return "stays loaded" if left_s is None else f"unloaded in {humanize.countdown(left_s)}"


def _speculation(speculation: Json) -> Iterator[str]:
    if not speculation["drafters"]:
        yield f"  no speculation: {printable(speculation['refusal'])}"
        return
    names, drafted = "+".join(speculation["drafters"]), speculation["drafted"]
    if not drafted:
        yield f"  speculation by {names}: no drafts yet"
        return
    share, length = speculation["accepted"] / drafted, drafted / speculation["drafts"]
    gain = speculation["speedup"] - 1
    yield f"  speculation by {names}: {gain:+.0%}, accepted {share:.0%} of {length:.1f} per draft"
    for each in speculation["by_drafter"]:
        pairs = list(zip(each["accepted"], each["verified"], strict=True))[:DEPTHS]
        shares = " ".join(f"{good / tried:.0%}" if tried else NONE for good, tried in pairs)
        yield f"    {each['name']}, accepted by depth: {shares}"
    if costs := _spread(speculation["verify_costs"]):
        texts = (f"{each['rows']}: {each['seconds'] * 1000:.1f}" for each in costs)
        yield f"    ms of a step by rows: {'  '.join(texts)}"


def _spread(costs: Sequence[Json]) -> list[Json]:
    """At most ROW_COUNTS of them, the first and the last among these."""
    if len(costs) <= ROW_COUNTS:
        return list(costs)
    last = len(costs) - 1
    return [costs[round(i * last / (ROW_COUNTS - 1))] for i in range(ROW_COUNTS)]


def _requests(requests: Sequence[Json]) -> Iterator[str]:
    if not requests:
        yield "No request yet."
        return
    yield _row([title for title, _, _ in COLUMNS])
    yield from (_row(_cells(request)) for request in requests)


def _cells(request: Json) -> list[str]:
    first_s, speed = request["first_s"], request["tokens_per_s"]
    return [
        datetime.fromtimestamp(request["started_at"]).strftime("%H:%M:%S"),
        request["route"].partition(" ")[2],  # nearly all methods are POST
        printable(request["model"]) or NONE,
        _status(request),
        _seconds(request["took_s"]),
        NONE if first_s is None else _seconds(first_s),
        f"{request['tokens']:,}" if request["tokens"] else NONE,
        NONE if speed is None else f"{speed:.0f}",
    ]


def _status(request: Json) -> str:
    if not request["status"]:
        return "running"
    if request["status"] == LEFT:
        return "left"
    return (
        request["ending"]
        if request["status"] == 200 and request["ending"]
        else str(request["status"])
    )


def _seconds(value: float) -> str:
    if value < 0.9995:
        return f"{value * 1000:.0f}ms"
    return f"{value:.1f}s" if value < 60 else humanize.countdown(value)


def _row(cells: Sequence[str]) -> str:
    return " ".join(
        cell[:width].rjust(width) if is_right else cell[:width].ljust(width)
        for cell, (_, width, is_right) in zip(cells, COLUMNS, strict=True)
    )


def printable(text: str) -> str:
    """Without what a terminal would take for a command."""
    return "".join(char if char.isprintable() else "?" for char in text)
