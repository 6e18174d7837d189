"""How much memory, how many files and which priority may a runner take?"""

from __future__ import annotations

import os
import resource
import sys

from ...protocol import Load

GIB = 1 << 30
# Address space is no measure: CUDA reserves terabytes, and mapped weights need no memory of their
# own. RLIMIT_DATA counts private writable memory, stacks of threads included.
NEED_FACTOR = 1.5  # of what the plan expects on the host: architectures that it does not know
LOAD_BYTES = 3 * GIB // 2  # Python, libraries, vocabulary, repaired header
SERVE_BYTES = 4 * GIB  # more while it serves: stacks for long texts (llama/model.py), grammars
THREAD_BYTES = 16 << 20  # a stack of 8 MiB, and what its allocator keeps
OTHER_THREADS = 16  # beside those that decode: preparing, compiling, receiving
OPEN_FILES = 4096  # a GPU takes tens of them, a model one
FILE_BYTES = 256 << 20  # of one written file: a profile has kilobytes, compiled GPU code megabytes


def load_limit(load: Load) -> int:
    """Bytes of private memory while the model is loaded; 0: no bound, as nothing was planned."""
    if not load.host_bytes:
        return 0
    threads = (load.threads or os.cpu_count() or 1) + OTHER_THREADS
    need = int(load.host_bytes * NEED_FACTOR) + load.host_cache_bytes
    return need + LOAD_BYTES + threads * THREAD_BYTES


def limit_resources(load: Load) -> None:
    """Bound this process, and all that it starts, for the time of the load."""
    _lower(resource.RLIMIT_CORE, 0)  # a core dump would hold the prompts
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    _lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    if sys.platform != "linux":
        return
    _lower(resource.RLIMIT_RTPRIO, 0)
    if limit := load_limit(load):
        _lower(resource.RLIMIT_DATA, limit + SERVE_BYTES)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (min(limit, hard), hard))


def relax_after_load() -> None:
    """The bound of memory while requests are served."""
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _lower(kind: int, most: int) -> None:
    """Lower both limits to `most`; one that is lower stays."""
    soft, hard = resource.getrlimit(kind)
    infinite = resource.RLIM_INFINITY
    hard = most if hard == infinite else min(hard, most)
    resource.setrlimit(kind, (hard if soft == infinite else min(soft, hard), hard))
