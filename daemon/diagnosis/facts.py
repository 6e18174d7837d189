"""What is known about this machine and this installation, as values that can be checked?"""

from __future__ import annotations

from typing import Literal

import msgspec

Vendor = Literal["NVIDIA", "AMD", "Intel", "Apple"]


class GraphicsCard(msgspec.Struct, frozen=True):
    """A GPU that is in the machine, whether a driver is there or not."""

    vendor: Vendor
    place: str = ""  # on the PCI bus
    driver: str = ""  # the kernel's; "": none has taken it
    is_integrated: bool = False  # part of the CPU: its memory is the host's


class Graphics(msgspec.Struct, frozen=True):
    """The GPUs, and what stands between them and a process."""

    cards: tuple[GraphicsCard, ...] = ()
    nvidia_driver: str = ""  # version; "": the driver is not loaded
    has_nvidia_device: bool = False  # /dev/nvidia0, or the device of WSL
    denied: tuple[str, ...] = ()  # device files that this user must not open
    denied_groups: tuple[str, ...] = ()  # groups that may


class Processor(msgspec.Struct, frozen=True):
    """The CPU, and how much of it this process may use."""

    name: str = ""
    architecture: str = ""  # "x86_64", "arm64"
    features: tuple[str, ...] = ()  # that matter to llama.cpp, in its spelling: "AVX2"
    logical: int = 1  # CPUs of the machine
    threads: int = 1  # that decode
    efficiency: int = 0  # cores left out because they are slow
    remote: int = 0  # cores left out because they belong to another processor
    quota: float | None = None  # CPUs that the control group allows


class Memory(msgspec.Struct, frozen=True):
    """Of the host, in bytes."""

    total_bytes: int = 0
    available_bytes: int = 0
    limit_bytes: int | None = None  # of the control group
    swap_used_bytes: int = 0
    huge_pages: str = ""  # transparent ones: "always", "madvise" or "never"; "": unknown


class LlamaDevice(msgspec.Struct, frozen=True):
    """A device that llama.cpp has found."""

    name: str
    description: str
    kind: str  # "cpu", "gpu", "integrated", "accelerator", "meta"
    free_bytes: int = 0
    total_bytes: int = 0


class LlamaBuild(msgspec.Struct, frozen=True):
    """The installed llama.cpp."""

    version: str = ""  # of llama-cpp-python; "": not installed
    required: str = ""  # that Outrider needs
    backends: tuple[str, ...] = ()  # in lower case, from the names of its libraries: "cuda"
    features: tuple[str, ...] = ()  # of the CPU that it was built for
    devices: tuple[LlamaDevice, ...] = ()
    failure: str = ""  # why it cannot be started
    signal: int = 0  # that ended it


class ModelsFolder(msgspec.Struct, frozen=True):
    """Where models are stored."""

    path: str = ""
    is_writable: bool = True
    free_bytes: int = 1 << 60
    total_bytes: int = 1 << 60
    read_bytes_per_s: float | None = None  # None: there is no model that could be read
    was_cached: bool = False  # the file was in memory, so that the disk was not measured


class AddressUse(msgspec.Struct, frozen=True):
    """Which program answers where the daemon is, or would be."""

    url: str = ""
    program: Literal["", "outrider", "ollama", "other"] = ""  # "": nobody
    version: str = ""  # of the program


class Installation(msgspec.Struct, frozen=True):
    """Python, and this process."""

    outrider: str = ""  # version
    executable: str = "python"
    python: str = ""  # version
    is_64_bit: bool = True
    is_debug_build: bool = False
    is_translated: bool = False  # an Intel build on an Apple processor
    open_files: int = 1 << 20  # that a process may have
    user: str = ""
    compilers: tuple[str, ...] = ()  # of GPU code, that are in the PATH: "nvcc", "glslc"
    hides_gpus: tuple[str, ...] = ()  # variables of the environment that hide GPUs, with values


class MachineFacts(msgspec.Struct, frozen=True):
    """All of it."""

    system: str = "linux"  # sys.platform
    is_container: bool = False
    processor: Processor = Processor()
    memory: Memory = Memory()
    graphics: Graphics = Graphics()
    llama: LlamaBuild = LlamaBuild()
    models: ModelsFolder = ModelsFolder()
    address: AddressUse = AddressUse()
    installation: Installation = Installation()
    sandbox_gaps: tuple[str, ...] = ()  # what runners could do here although they need not


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, or could be better."""

    text: str
    remedy: str  # what to do; commands stand after a colon or on their own
    is_problem: bool = True  # False: a note, with which Outrider works as it should
