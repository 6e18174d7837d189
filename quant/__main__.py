"""The child process that quantises with llama.cpp: an abort of C++ ends it, and nothing else.

It reads one task from stdin and writes reports to stdout. It ends when stdin is closed, so that it
does not outlive the process that started it.
"""

import ctypes
import os
import re
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import disk_usage
from typing import Final

import numpy as np
from llama_cpp import llama_cpp as lib

from .gguf import GGUFError, read_header
from .imatrix import ImatrixError, ImportanceMatrix, read_imatrix
from .tasks import (
    CountReport,
    CountTask,
    DoneReport,
    FailureReport,
    QuantizeTask,
    Report,
    SizeReport,
    TensorReport,
    decode_task,
    encode,
)

LEVEL_ERROR: Final = 4  # GGML_LOG_LEVEL_ERROR (GUIDE 0.20)
# Lines of the quantiser's log (llama-quant.cpp).
TENSOR_LINE: Final = re.compile(r"\[ *\d+/ *\d+\] (\S+)")
SIZE_LINE: Final = re.compile(r"quant size += +([\d.]+) MiB")
NEEDS_IMATRIX: Final = "require an imatrix"
CAUSE: Final = re.compile(r"^\w+: (?:failed to quantize: )?")
# Characters of a text that are tokenized at once: std::regex recurses once per character of a
# match, and any thread has the stack for so many.
PIECE_CHARACTERS: Final = 4096
MAX_VALUE_BYTES: Final = 127  # of a text in llama_model_kv_override

Send = Callable[[Report], None]


class TaskFailed(Exception):
    """The task cannot be done; a text for the user."""


class QuantizerLog:
    """Reads llama.cpp's log: reports tensors, and keeps errors and what a dry run says."""

    def __init__(self, send: Send) -> None:
        self.size_bytes = 0
        self.needs_imatrix = False
        self.is_dry = False
        self._send = send
        self._errors: deque[str] = deque(maxlen=20)
        self._callback = lib.llama_log_callback(self._read)  # must stay referenced
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    @property
    def cause(self) -> str:
        """The last error, which names the tensor; those before may be frames of it."""
        return CAUSE.sub("", self._errors[-1]) if self._errors else "unknown"

    def _read(self, level: int, text: bytes, _user: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == LEVEL_ERROR and line.strip("= "):
            self._errors.append(line)
        if found := SIZE_LINE.search(line):
            self.size_bytes = int(float(found[1]) * 2**20)
        self.needs_imatrix |= NEEDS_IMATRIX in line
        if not self.is_dry and (found := TENSOR_LINE.match(line)):
            self._send(TensorReport(found[1]))


def quantize(task: QuantizeTask, send: Send) -> None:
    """Raises TaskFailed."""
    log = QuantizerLog(send)
    matrix = read_imatrix(Path(task.imatrix)) if task.imatrix else None
    kept: list[object] = []  # what the parameters point to
    params = _params(task, matrix, kept)
    log.is_dry = params.dry_run = True
    _call(task, params, log)
    if log.needs_imatrix and matrix is None:
        raise TaskFailed(
            "this quantization requires an importance matrix: `outrider quantize --imatrix`"
        )
    send(SizeReport(log.size_bytes))
    check_space(Path(task.source), Path(task.target), log.size_bytes)
    log.is_dry = params.dry_run = False
    _call(task, params, log)


def _call(task: QuantizeTask, params: lib.llama_model_quantize_params, log: QuantizerLog) -> None:
    paths = os.fsencode(task.source), os.fsencode(task.target)
    if lib.llama_model_quantize(*paths, ctypes.byref(params)):
        raise TaskFailed(f"llama.cpp cannot quantize {task.source}: {log.cause}")


def check_space(source: Path, target: Path, size_bytes: int) -> None:
    """Raises TaskFailed without space for tensors of that size, and metadata like the source's."""
    header = read_header(source)
    metadata_bytes = min((t.offset for t in header.tensors), default=header.size_bytes)
    need, folder = size_bytes + metadata_bytes, target.absolute().parent
    free = disk_usage(folder).free
    if free < need:
        raise TaskFailed(
            f"not enough disk space in {folder}: {need / 1e6:.1f} MB are needed, "
            f"{free / 1e6:.1f} MB are free"
        )


def _params(
    task: QuantizeTask, matrix: ImportanceMatrix | None, kept: list[object]
) -> lib.llama_model_quantize_params:
    params = lib.llama_model_quantize_default_params()
    params.ftype = task.file_type
    params.nthread = task.threads
    params.allow_requantize = task.requantize
    if matrix:
        columns = _columns(matrix, kept)
        overrides = _overrides(task.imatrix, matrix)
        params.imatrix, params.kv_overrides = columns, overrides
        kept += [columns, overrides]
    return params


def _columns(matrix: ImportanceMatrix, kept: list[object]) -> object:
    """The matrix as llama.cpp wants it: an array that ends with an entry without a name."""
    array = (lib.llama_model_imatrix_data * (len(matrix.columns) + 1))()
    for entry, (name, column) in zip(array, matrix.columns.items(), strict=False):
        entry.name, entry.size = name.encode(), column.size
        entry.data = column.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        kept.append(column)
    return array


def _overrides(path: str, matrix: ImportanceMatrix) -> object:
    """The metadata that llama-quantize adds; the array ends with an entry without a key."""
    array = (lib.llama_model_kv_override * 4)()
    array[0].key, array[0].tag = b"quantize.imatrix.file", lib.LLAMA_KV_OVERRIDE_TYPE_STR
    array[0].value.val_str = os.fsencode(Path(path).name)[:MAX_VALUE_BYTES]
    numbers = {"entries_count": len(matrix.columns), "chunks_count": matrix.chunks}
    for entry, (name, number) in zip(array[1:], numbers.items(), strict=False):
        entry.key = f"quantize.imatrix.{name}".encode()
        entry.tag, entry.value.val_i64 = lib.LLAMA_KV_OVERRIDE_TYPE_INT, number
    return array


def count_tokens(task: CountTask, send: Send) -> None:
    """Raises TaskFailed."""
    log = QuantizerLog(send)
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(os.fsencode(task.model), params)
    if not model:
        raise TaskFailed(f"llama.cpp cannot read the vocabulary of {task.model}: {log.cause}")
    vocab = lib.llama_model_get_vocab(model)
    counts: Counter[int] = Counter()
    for piece in _pieces(Path(task.text)):
        counts.update(_tokenize(vocab, piece.encode()))
    send(CountReport(dict(counts)))


def _pieces(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        while piece := file.readline(PIECE_CHARACTERS):
            yield piece


def _tokenize(vocab: object, text: bytes) -> list[int]:
    room = len(text) + 16  # no token is empty
    out = np.empty(room, np.int32)
    pointer = out.ctypes.data_as(ctypes.POINTER(lib.llama_token))
    count = lib.llama_tokenize(vocab, text, len(text), pointer, room, False, True)
    return [int(token) for token in out[: max(count, 0)]]


def main() -> None:
    """Runs the task of the first line of stdin."""
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what C++ prints is no report

    def send(report: Report) -> None:
        reports.write(encode(report))
        reports.flush()

    task = decode_task(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lib.llama_backend_init()
    try:
        quantize(task, send) if isinstance(task, QuantizeTask) else count_tokens(task, send)
        send(DoneReport())
    except (TaskFailed, ImatrixError, GGUFError) as error:
        send(FailureReport(str(error)))
    except OSError as error:
        send(FailureReport(f"{error.filename or 'a file'} cannot be used: {error.strerror}"))


def _end_with_parent() -> None:
    """Reads past Python's buffer, whose lock would keep the interpreter from ending."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
