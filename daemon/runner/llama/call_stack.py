"""How a call into C++ that recurses deeply gets a stack that suffices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_START = threading.Lock()  # threading.stack_size holds for the whole process


def call_with_stack(size_bytes: int, call: Callable[[], T]) -> T:
    """What `call` returns or raises, run in a thread whose stack has `size_bytes`.

    The stack is only reserved: its pages take memory when they are touched, and are given back at
    the end. Raises MemoryError if the system does not reserve that much.
    """
    results: list[T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run, name="deep-stack")
    with _START:
        before = threading.stack_size(size_bytes)
        try:
            thread.start()
        except RuntimeError as error:
            raise MemoryError(f"no stack of {size_bytes} bytes: {error}") from error
        finally:
            threading.stack_size(before)
    thread.join()
    if faults:
        raise faults[0]
    return results[0]
