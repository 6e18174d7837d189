"""What is wrong with this machine or this installation? Pure functions of the facts."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator

from .facts import Finding, MachineFacts
from .gpu_checks import build_command, check_gpus
from .sandbox_checks import check_sandbox

GIB = 1 << 30
LEAST_FREE_BYTES = 4 * GIB  # on the disk of the models: a small model and its download
LEAST_AVAILABLE_BYTES = 2 * GIB  # of memory: a small model
MUCH_SWAP_BYTES = GIB
SLOW_READ_BYTES_PER_S = 300e6  # a model of 5 GB then takes 17 s to load from the disk
EXAMPLE_BYTES = 5e9  # of that model
LEAST_OPEN_FILES = 1024  # connections of 512 waiting requests, and files
DESIRED_FEATURES = ("AVX2", "F16C", "FMA")  # without them decoding takes several times as long

Check = Callable[[MachineFacts], Iterator[Finding]]


def diagnose(facts: MachineFacts) -> tuple[Finding, ...]:
    """All findings, problems first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return tuple(sorted(found, key=lambda finding: not finding.is_problem))


def _check_installation(facts: MachineFacts) -> Iterator[Finding]:
    own, llama = facts.installation, facts.llama
    if not own.is_64_bit:
        yield Finding("this Python has 32 bits, so that models are limited to 4 GiB", "use another")
    if own.is_translated:
        text = "this Python is made for Intel's processors, and is translated for Apple's"
        yield Finding(text, "make the environment anew with: arch -arm64 python3.11 -m venv .venv")
    if own.is_debug_build:
        yield Finding("this Python is a debug build, which is slow", "use another one", False)
    if not llama.version:
        yield Finding("llama-cpp-python is not installed", build_command(facts))
    elif llama.required and llama.version != llama.required:
        text = f"llama-cpp-python is {llama.version}, but Outrider needs {llama.required}"
        yield Finding(text, build_command(facts))


def _check_build(facts: MachineFacts) -> Iterator[Finding]:
    llama, processor = facts.llama, facts.processor
    if llama.signal == signal.SIGILL:
        text = "llama.cpp was built for another processor: it uses instructions that this one lacks"
        yield Finding(text, build_command(facts))
    elif llama.failure:
        yield Finding(f"llama.cpp cannot be started: {llama.failure}", build_command(facts))
    if not processor.features:  # not an x86 processor, or the system does not tell
        return
    if lacking := [name for name in DESIRED_FEATURES if name not in processor.features]:
        text = f"the processor has no {' and no '.join(lacking)}, so that decoding on it is slow"
        yield Finding(text, "use a GPU, or models of less than 2 billion parameters", False)
    unused = [name for name in processor.features if name not in llama.features]
    if llama.features and (missed := [name for name in unused if name in DESIRED_FEATURES]):
        text = f"the processor has {' and '.join(missed)}, but llama.cpp was built without"
        yield Finding(text, build_command(facts, "-DGGML_NATIVE=on"))


def _check_processor(facts: MachineFacts) -> Iterator[Finding]:
    processor = facts.processor
    if processor.quota is not None and processor.quota < processor.logical:
        text = (
            f"the control group allows {processor.quota:g} of {processor.logical} CPUs, "
            f"so that {processor.threads} threads decode"
        )
        yield Finding(text, "to change it: docker run --cpus N, or systemd's CPUQuota=", False)
    if processor.remote:
        text = f"{processor.remote} cores of another processor (NUMA) are not used"
        yield Finding(text, 'to use them: the option "num_thread" of a request or a model', False)


def _check_memory(facts: MachineFacts) -> Iterator[Finding]:
    memory = facts.memory
    if memory.limit_bytes is not None and memory.limit_bytes < memory.total_bytes:
        text = f"the control group allows {_gib(memory.limit_bytes)} of {_gib(memory.total_bytes)}"
        remedy = "to change it: docker run --memory SIZE, or systemd's MemoryMax="
        is_small = memory.limit_bytes < LEAST_AVAILABLE_BYTES
        yield Finding(f"{text} of memory", remedy, is_problem=is_small)
    if memory.total_bytes and memory.available_bytes < LEAST_AVAILABLE_BYTES:
        text = f"only {_gib(memory.available_bytes)} of memory are free"
        yield Finding(text, "close programs; to see which ones take it: ps aux --sort=-rss | head")
    if memory.swap_used_bytes > MUCH_SWAP_BYTES:
        text = f"{_gib(memory.swap_used_bytes)} of memory are swapped out to the disk"
        remedy = "once enough is free, bring it back: sudo swapoff -a && sudo swapon -a"
        yield Finding(text, remedy, is_problem=False)
    if memory.huge_pages == "never":
        text = "huge pages are switched off, with which decoding on the CPU is 2 to 4 % faster"
        path = "/sys/kernel/mm/transparent_hugepage/enabled"
        yield Finding(text, f"echo madvise | sudo tee {path}", is_problem=False)


def _check_models(facts: MachineFacts) -> Iterator[Finding]:
    models = facts.models
    path = shlex.quote(models.path)
    if not models.is_writable:
        text = f"{facts.installation.user} must not write to the models' folder {models.path}"
        yield Finding(text, f"sudo chown -R {shlex.quote(facts.installation.user)} {path}")
    if models.free_bytes < LEAST_FREE_BYTES:
        text = f"only {_gib(models.free_bytes)} are free on the disk of {models.path}"
        remedy = "delete models (outrider list, outrider rm MODEL), or set OUTRIDER_MODELS"
        yield Finding(text, remedy)
    rate = models.read_bytes_per_s
    if rate is not None and rate < SLOW_READ_BYTES_PER_S:
        text = (
            f"models are read at {rate / 1e6:.0f} MB/s: "
            f"one of 5 GB takes {EXAMPLE_BYTES / rate:.0f} s to load"
        )
        yield Finding(text, "keep them on a faster disk: OUTRIDER_MODELS=/its/folder", False)


def _check_address(facts: MachineFacts) -> Iterator[Finding]:
    address, own = facts.address, facts.installation.outrider
    elsewhere = "OUTRIDER_HOST=127.0.0.1:11500 outrider serve"
    if address.program == "ollama":
        text = f"Ollama {address.version} answers at {address.url}, where Outrider would listen"
        yield Finding(text, f"sudo systemctl stop ollama   (or serve elsewhere: {elsewhere})")
    elif address.program == "other":
        text = f"another program listens at {address.url}, where Outrider would"
        yield Finding(text, f"serve elsewhere: {elsewhere}")
    elif address.program == "outrider" and address.version not in ("", own):
        text = f"the daemon at {address.url} is Outrider {address.version}, this command is {own}"
        yield Finding(text, "restart the daemon: stop it, then outrider serve")


def _check_limits(facts: MachineFacts) -> Iterator[Finding]:
    limit = facts.installation.open_files
    if 0 <= limit < LEAST_OPEN_FILES:  # negative: no limit
        text = f"a process may have only {limit} open files, which many requests exceed"
        yield Finding(text, "before starting the daemon: ulimit -n 4096")


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"


CHECKS: tuple[Check, ...] = (
    check_gpus,
    _check_installation,
    _check_build,
    _check_address,
    _check_models,
    _check_memory,
    _check_processor,
    _check_limits,
    check_sandbox,
)
