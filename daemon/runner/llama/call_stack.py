"""How a call into C++ that recurses deeply gets a stack that suffices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_START = threading.Lock()  # threading.stack_size holds for the whole process


def call_with_stack(size_bytes: int, call: Callable[[], T]) -> T:
    """What `call` returns or raises, run in a thread whose stack has `size_bytes`.

    The stack is only reserved: its pages take memory when they are touched, and are given back at
    the end. Raises MemoryError if the system does not reserve that much.
    """
    with ThreadPoolExecutor(1, "deep-stack") as threads:
        with _START:
            before = threading.stack_size(size_bytes)
            try:
                result = threads.submit(call)  # starts the thread
            except RuntimeError as error:
                raise MemoryError(f"no stack of {size_bytes} bytes: {error}") from error
            finally:
                threading.stack_size(before)
        return result.result()
