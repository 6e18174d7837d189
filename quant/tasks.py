"""What is the child process of `quant` asked, and what does it report? One JSON line each."""

from collections.abc import Sequence

import msgspec


class QuantizeTask(msgspec.Struct, frozen=True, tag="quantize"):
    """Write `source` as `target` with another file type; without a number, as it is."""

    source: str
    target: str
    file_type: int  # llama_ftype
    threads: int
    imatrix: str = ""  # path; "" for none
    requantize: bool = False  # whether tensors that are quantised already may be, too


class CountTask(msgspec.Struct, frozen=True, tag="count"):
    """Count the tokens of a text file, with the vocabulary of a model."""

    model: str
    text: str


Task = QuantizeTask | CountTask


class SizeReport(msgspec.Struct, frozen=True, tag="size"):
    """The size of the target's tensors, before any of them is written."""

    size_bytes: int


class TensorReport(msgspec.Struct, frozen=True, tag="tensor"):
    """The quantiser begins with this tensor; those before it are written."""

    name: str


class CountReport(msgspec.Struct, frozen=True, tag="counts"):
    """How often each token id occurs; ids that do not occur are left out."""

    counts: dict[int, int]


class DoneReport(msgspec.Struct, frozen=True, tag="done"):
    """The task is done."""


class FailureReport(msgspec.Struct, frozen=True, tag="failure"):
    """The task failed; a text for the user."""

    text: str


Report = SizeReport | TensorReport | CountReport | DoneReport | FailureReport


def encode(message: Task | Report) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def decode_task(line: bytes) -> Task:
    task: Task = msgspec.json.decode(line, type=Task)
    return task


def decode_report(line: bytes) -> Report:
    report: Report = msgspec.json.decode(line, type=Report)
    return report


def last_lines(text: bytes, count: int) -> Sequence[str]:
    """The last lines of a log that are not empty."""
    lines = text.decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()][-count:]
