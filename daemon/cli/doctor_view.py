"""How does the report of `doctor` read?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..diagnosis.facts import Finding, GraphicsCard, MachineFacts

GIB = 1 << 30
Rows = Iterator[tuple[str, str]]


def render(facts: MachineFacts, findings: Sequence[Finding]) -> str:
    """Three parts: the machine, what Outrider uses of it, and the findings with their remedies."""
    problems = [finding for finding in findings if finding.is_problem]
    notes = [finding for finding in findings if not finding.is_problem]
    parts = [
        _section("This machine", _machine(facts)),
        _section("Outrider uses", _use(facts)),
        *([_listed("Problems", problems)] if problems else ["No problems found."]),
        *([_listed("Notes", notes)] if notes else []),
    ]
    return "\n\n".join(parts)


def _section(title: str, rows: Rows) -> str:
    return "\n".join([title, *(f"  {name:<14}{value}" for name, value in rows)])


def _listed(title: str, findings: Sequence[Finding]) -> str:
    lines = (f"  - {each.text}\n    {each.remedy}" for each in findings)
    return "\n".join([title, *lines])


def _machine(facts: MachineFacts) -> Rows:
    processor, memory, own = facts.processor, facts.memory, facts.installation
    features = f" ({', '.join(processor.features)})" if processor.features else ""
    yield "processor", f"{processor.name}, {_count(processor.logical, 'CPU')}{features}"
    yield "memory", f"{_gib(memory.total_bytes)}, {_gib(memory.available_bytes)} free"
    if memory.limit_bytes is not None:
        yield "memory limit", _gib(memory.limit_bytes)
    for card in facts.graphics.cards:
        yield "GPU", _card(card, facts.graphics.nvidia_driver)
    if not facts.graphics.cards:
        yield "GPU", "none found"
    backends = ", ".join(facts.llama.backends) or "none"
    yield "llama.cpp", f"llama-cpp-python {facts.llama.version or '-'}, built for: {backends}"
    yield "Python", f"{own.python}, {own.executable}"
    yield "models", f"{facts.models.path}, {_gib(facts.models.free_bytes)} free"
    if facts.models.read_bytes_per_s is not None:
        yield "disk", _rate(facts.models.read_bytes_per_s, facts.models.was_cached)


def _use(facts: MachineFacts) -> Rows:
    processor = facts.processor
    left_out = [
        *([f"{processor.efficiency} efficiency cores"] if processor.efficiency else []),
        *([f"{processor.remote} cores of another processor"] if processor.remote else []),
    ]
    without = f", without {' and '.join(left_out)}" if left_out else ""
    yield "threads", f"{processor.threads}{without}"
    gpus = [each for each in facts.llama.devices if each.kind in ("gpu", "integrated")]
    for gpu in gpus:
        memory = f"{_gib(gpu.free_bytes)} of {_gib(gpu.total_bytes)} free"
        yield "device", f"{gpu.name}: {gpu.description}, {memory}"
    if not gpus:
        yield "device", "the CPU alone"
    yield "address", f"{facts.address.url} ({_answering(facts)})"


def _answering(facts: MachineFacts) -> str:
    address = facts.address
    if address.program == "outrider":
        return f"Outrider {address.version} is running"
    if address.program == "ollama":
        return f"Ollama {address.version} is running"
    return "another program is there" if address.program else "free: no daemon is running"


def _card(card: GraphicsCard, nvidia_driver: str) -> str:
    version = nvidia_driver if card.vendor == "NVIDIA" else ""
    driver = (
        " ".join(filter(None, ("driver", card.driver, version))) if card.driver else "no driver"
    )
    kind = ", integrated" if card.is_integrated else ""
    return f"{card.vendor}{f' at {card.place}' if card.place else ''}{kind}, {driver}"


def _rate(bytes_per_s: float, was_cached: bool) -> str:
    where = " (from memory: the file was cached)" if was_cached else ""
    return f"models are read at {bytes_per_s / 1e6:,.0f} MB/s{where}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
