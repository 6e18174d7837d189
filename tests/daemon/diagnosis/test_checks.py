"""What is found wrong, with which remedy? One fact at a time over a machine in order."""

from __future__ import annotations

import signal

import msgspec
import pytest
from outrider.daemon.diagnosis.checks import diagnose
from outrider.daemon.diagnosis.facts import (
    AddressUse,
    Finding,
    Installation,
    LlamaBuild,
    LlamaDevice,
    MachineFacts,
    Memory,
    ModelsFolder,
    Processor,
)

pytestmark = pytest.mark.unit

GIB = 1 << 30
FEATURES = ("AVX2", "F16C", "FMA")
CPU = LlamaDevice("CPU", "a processor", "cpu")
SOUND = MachineFacts(
    processor=Processor("a processor", "x86_64", FEATURES, logical=8, threads=4),
    memory=Memory(16 * GIB, 12 * GIB, huge_pages="madvise"),
    llama=LlamaBuild("0.3.36", "0.3.36", ("cpu",), ("SSE3", *FEATURES), (CPU,)),
    models=ModelsFolder("/models", read_bytes_per_s=2e9),
    address=AddressUse("http://127.0.0.1:11434"),
    installation=Installation("0.1.0", "/venv/bin/python", "3.11.7", user="ada"),
)


def found(**changes: dict[str, object]) -> tuple[Finding, ...]:
    """The findings after changes to parts of the facts."""
    parts = {
        name: msgspec.structs.replace(getattr(SOUND, name), **fields)
        for name, fields in changes.items()
    }
    return diagnose(msgspec.structs.replace(SOUND, **parts))


def test_rights_that_runners_keep_are_a_note() -> None:
    kept = ("read files", "use the network", "end processes")
    for system, word in (("linux", "Landlock"), ("darwin", "trust")):
        facts = msgspec.structs.replace(SOUND, system=system, sandbox_gaps=kept)
        (finding,) = diagnose(facts)
        assert "could read files, use the network or end processes" in finding.text
        assert word in finding.remedy
        assert not finding.is_problem


def test_nothing_is_wrong_with_a_sound_machine() -> None:
    assert found() == ()


@pytest.mark.parametrize(
    ("part", "fields", "text", "remedy"),
    [
        ("llama", {"version": "", "devices": ()}, "is not installed", "pip install"),
        ("llama", {"version": "0.3.30"}, "0.3.30, but Outrider needs 0.3.36", "python==0.3.36"),
        ("llama", {"features": ("SSE3", "F16C", "FMA")}, "has AVX2, but", "DGGML_NATIVE=on"),
        ("llama", {"failure": "x", "signal": int(signal.SIGILL)}, "another proc", "pip install"),
        ("llama", {"failure": "OSError: libcudart.so.12"}, "libcudart.so.12", "pip install"),
        ("address", {"program": "ollama", "version": "0.12"}, "Ollama 0.12 answers", "systemctl"),
        ("address", {"program": "other"}, "another program listens", "OUTRIDER_HOST="),
        ("address", {"program": "outrider", "version": "0.0.9"}, "is Outrider 0.0.9", "restart"),
        ("models", {"is_writable": False}, "ada must not write", "sudo chown -R ada /models"),
        ("models", {"free_bytes": GIB}, "only 1.0 GiB are free", "outrider rm MODEL"),
        ("memory", {"available_bytes": GIB}, "only 1.0 GiB of memory", "close programs"),
        ("memory", {"limit_bytes": GIB}, "allows 1.0 GiB of 16.0 GiB", "docker run --memory"),
        ("installation", {"open_files": 256}, "only 256 open files", "ulimit -n 4096"),
        ("installation", {"is_64_bit": False}, "32 bits", "use another"),
        ("installation", {"is_translated": True}, "translated", "arch -arm64"),
    ],
)
def test_problems(part: str, fields: dict[str, object], text: str, remedy: str) -> None:
    [finding] = found(**{part: fields})
    assert text in finding.text
    assert remedy in finding.remedy
    assert finding.is_problem


@pytest.mark.parametrize(
    ("part", "fields", "text"),
    [
        ("processor", {"features": ("F16C", "FMA")}, "has no AVX2"),
        ("processor", {"quota": 1.5, "threads": 2}, "allows 1.5 of 8 CPUs, so that 2 threads"),
        ("processor", {"remote": 16}, "16 cores of another processor"),
        ("memory", {"limit_bytes": 8 * GIB}, "allows 8.0 GiB of 16.0 GiB"),
        ("memory", {"swap_used_bytes": 3 * GIB}, "3.0 GiB of memory are swapped"),
        ("memory", {"huge_pages": "never"}, "huge pages are switched off"),
        ("models", {"read_bytes_per_s": 100e6}, "at 100 MB/s: one of 5 GB takes 50 s"),
        ("installation", {"is_debug_build": True}, "debug build"),
    ],
)
def test_notes(part: str, fields: dict[str, object], text: str) -> None:
    [finding] = found(**{part: fields})
    assert text in finding.text
    assert not finding.is_problem


def test_the_running_daemon_of_this_version_is_no_finding() -> None:
    assert found(address={"program": "outrider", "version": "0.1.0"}) == ()


def test_an_arm_processor_needs_no_features_of_x86() -> None:
    assert found(processor={"features": (), "architecture": "aarch64"}) == ()


def test_problems_come_before_notes() -> None:
    both = found(memory={"huge_pages": "never"}, installation={"open_files": 256})
    assert [finding.is_problem for finding in both] == [True, False]
