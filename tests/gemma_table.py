"""`python -m gemma_table`: what of Gemma 4 fits on a card of 24 GiB? The tables of quant/README.md.

Run from `tests/`, or with it on the path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gemma_shapes import Q4_0, Q4_K_M, Q8_0, SHAPES, assistant_header, gemma_header
from outrider.quant.gguf import Header
from outrider.quant.kv_cache import released_sequences
from outrider.quant.memory import (
    ContextShape,
    ModelHeaders,
    PartBytes,
    Placement,
    cache_bytes,
    estimate_memory,
)

GIB, MIB = 1 << 30, 1 << 20
GB = 10**9
FREE_BYTES = 23.5 * GIB  # of 24 GiB beside a desktop
UBATCH = 512  # rows
STEP = 1024  # tokens of context
LEAST = 4096  # tokens of context
NAMES = {Q4_K_M: "Q4_K_M", Q4_0: "QAT Q4_0"}
HEAD = (
    "model",
    "types",
    "slots",
    "weights",
    "drafter",
    "compute",
    "KV 8k / 32k, f16",
    "f16: context, total",
    "q8_0: context, total",
)


@dataclass(frozen=True, slots=True)
class Published:
    """A fit that somebody has published (GB of 10^9 bytes), and what it was measured with."""

    title: str
    published_gb: float
    size: str
    file_type: str
    cells: int
    kv_type: str
    sequences: int = 0  # windows; 0: those of the runner for one slot
    has_drafter: bool = True


PUBLISHED = (
    Published("31B QAT, MTP, q8_0, 32k", 21.4, "31B", Q4_0, 32_768, "q8_0"),
    Published("31B QAT, MTP, q8_0, 40k", 23.0, "31B", Q4_0, 40_960, "q8_0"),
    Published("the same, 4 windows", 23.0, "31B", Q4_0, 40_960, "q8_0", 4),
    Published("31B Q4_K_S, 64k", 19.2, "31B", Q4_0, 65_536, "f16", has_drafter=False),
    Published("the same, q4_0", 19.2, "31B", Q4_0, 65_536, "q4_0", has_drafter=False),
    Published("12B QAT, MTP, 8k", 8.0, "12B", Q4_0, 8192, "f16"),
    Published("the same, 1 window", 8.0, "12B", Q4_0, 8192, "f16", 1),
    Published("12B Q8, 256k", 16.0, "12B", Q8_0, 262_144, "f16", has_drafter=False),
    Published("the same, q8_0", 16.0, "12B", Q8_0, 262_144, "q8_0", has_drafter=False),
)


def fits() -> Iterator[str]:
    """The table of what fits, line by line."""
    yield from _table(HEAD, list(_fit_rows()))


def comparison() -> Iterator[str]:
    """The table of published fits, line by line."""
    rows = list[Sequence[str]]()
    for fit in PUBLISHED:
        drafter = assistant_header(fit.size) if fit.has_drafter else None
        target = gemma_header(fit.size, fit.file_type)
        context = _context(target, fit.cells, fit.kv_type, 1)
        if fit.sequences:
            context = replace(context, sequences=fit.sequences)
        found = _on_gpu(target, drafter, context).total_bytes / GB
        difference = 100 * (found / fit.published_gb - 1)
        rows.append((fit.title, f"{fit.published_gb:.1f}", f"{found:.1f}", f"{difference:+.0f} %"))
    yield from _table(("configuration", "published GB", "computed GB", "difference"), rows)


def _fit_rows() -> Iterator[Sequence[str]]:
    for size in SHAPES:
        for file_type, name in NAMES.items():
            target, drafter = gemma_header(size, file_type), assistant_header(size)
            for slots in (1, 4, 8):
                yield size, name, str(slots), *_cells_of_row(target, drafter, slots)


def _cells_of_row(target: Header, drafter: Header, slots: int) -> Iterator[str]:
    part = _on_gpu(target, drafter, _context(target, 8192, "f16", slots))
    yield f"{part.weights_bytes / GIB:.2f}"
    yield f"{part.drafter_bytes / GIB:.2f}"
    yield f"{part.compute_bytes / MIB:.0f} MiB"
    kv = (cache_bytes(target, _context(target, cells, "f16", slots)) for cells in (8192, 32_768))
    yield " / ".join(f"{size / GIB:.2f}" for size in kv)
    for kv_type in ("f16", "q8_0"):
        cells = largest_context(target, drafter, kv_type, slots)
        found = _on_gpu(target, drafter, _context(target, cells, kv_type, slots))
        yield f"{cells:,}, {found.total_bytes / GIB:.2f}" if cells else "does not fit"


def largest_context(target: Header, drafter: Header, kv_type: str, slots: int) -> int:
    """Cells that fit, shared by all slots; 0 if the least does not.

    Sizes grow by almost the same for each cell, so that two of them tell where the limit is.
    """

    def size(cells: int) -> int:
        return _on_gpu(target, drafter, _context(target, cells, kv_type, slots)).total_bytes

    least, most = LEAST, target.context_length or LEAST
    low, high = size(least), size(most)
    if low > FREE_BYTES:
        return 0
    if high <= FREE_BYTES:
        return most
    crossing = least + (most - least) * (FREE_BYTES - low) / (high - low)
    cells = int(crossing) // STEP * STEP
    while size(cells) > FREE_BYTES:
        cells -= STEP
    while size(cells + STEP) <= FREE_BYTES:
        cells += STEP
    return cells


def _on_gpu(target: Header, drafter: Header | None, context: ContextShape) -> PartBytes:
    """What a GPU holds that has all layers."""
    placement = Placement((target.block_count or 0) + 1)
    return estimate_memory(ModelHeaders(target, drafter), context, placement).gpus[0]


def _context(target: Header, cells: int, kv_type: str, slots: int) -> ContextShape:
    sequences = slots + released_sequences(target, slots)
    return ContextShape(cells, sequences, UBATCH, kv_type, slots=slots)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    print("\n".join([*fits(), "", *comparison()]))
