"""How do tests load a model on other devices than the CPU, also on a machine that has none?

llama.cpp's RPC backend makes a GPU of any device of another process. A device that is registered
stays, and later loads put their layers on it; each load therefore runs in a process of its own:
`python -m placing` reads a PlacedLoad from its stdin, and writes a Placed to its stdout.
"""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import llama_cpp
import msgspec
from harness import drive, text_request
from llama_cpp import llama_cpp as lib
from outrider.daemon.protocol import DeviceBytes, Load
from outrider.daemon.runner.llama.devices import ggml_function, read_backends
from outrider.daemon.runner.llama.loading import load_model
from outrider.daemon.runner.speculation.calibration import prepare_speculation

PROMPT = "The quick brown fox"
NUM_PREDICT = 24
START_S = 20.0  # until a server listens; it imports llama.cpp first
LOAD_S = 120.0  # of one process, with its load
NO_RPC = "this llama.cpp has no RPC backend (build it with CMAKE_ARGS=-DGGML_RPC=ON)"
LIBRARIES = ("libggml-rpc.so", "libggml-rpc.dylib")


class PlacedLoad(msgspec.Struct, frozen=True):
    """What one process loads, with the servers whose devices are its GPUs."""

    load: Load
    servers: tuple[str, ...] = ()  # host:port


class Placed(msgspec.Struct, frozen=True):
    """What became of it."""

    text: str  # greedy, after PROMPT
    devices: tuple[DeviceBytes, ...]
    layers: dict[int, str]  # devices of the target's layers
    num_seqs: int  # sequence ids of the target's context
    cache_devices: tuple[str, ...]  # of the caches that a drafter may share
    drafters: tuple[str, ...] = ()
    refusal: str = ""

    def on(self, device: str) -> DeviceBytes:
        """What is on this device; nothing if it has no part."""
        named = (found for found in self.devices if found.device == device)
        return next(named, DeviceBytes(device, device != "CPU"))


def has_rpc() -> bool:
    """Whether llama.cpp can use devices of other processes."""
    return "RPC" in read_backends()


@contextmanager
def serve_devices(count: int) -> Iterator[tuple[str, ...]]:
    """Servers with a device each, which computes on this machine's CPU; their addresses."""
    with ExitStack() as servers:
        yield tuple(servers.enter_context(_serve_device()) for _ in range(count))


@contextmanager
def _serve_device() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "placing", "serve", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent)
    try:
        _wait_until_it_listens(process, port)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    end_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end_s:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the RPC server does not listen")


def load_apart(load: Load, servers: tuple[str, ...] = ()) -> Placed:
    """Load and write a text in a process of its own. Raises RuntimeError with its stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "placing"],
        input=msgspec.json.encode(PlacedLoad(load, servers)),
        capture_output=True,
        timeout=LOAD_S,
        cwd=Path(__file__).parent,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode("utf-8", "replace"))
    return msgspec.json.decode(done.stdout, type=Placed)


def load_here(spec: PlacedLoad) -> Placed:
    """Load with these devices, and write a text."""
    for server in spec.servers:
        register_server(server)
    loaded = load_model(spec.load, lambda _fraction: None)
    speculation = prepare_speculation(loaded, spec.load)
    drafters, refusal = speculation.names, speculation.refusal
    with drive(loaded, spec.load, speculation) as engine:
        texts = engine.run(text_request(1, PROMPT, NUM_PREDICT))
        return Placed(
            texts[1],
            loaded.measure(),
            loaded.log.layer_devices,
            loaded.context.num_seqs,
            loaded.model.shared_cache_devices,
            drafters,
            refusal,
        )


def register_server(server: str) -> None:
    """Make the devices of a server GPUs of this process (GUIDE 1.9). Raises RuntimeError."""
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    rpc = ggml_function("ggml_backend_reg_by_name", pointer, text)(b"RPC")
    get = ggml_function("ggml_backend_reg_get_proc_address", pointer, pointer, text)
    add = ctypes.CFUNCTYPE(pointer, text)(get(rpc, b"ggml_backend_rpc_add_server"))
    if not (backend := add(server.encode())):
        raise RuntimeError(f"{server} has no devices")
    ggml_function("ggml_backend_register", None, pointer)(backend)


def serve(port: int) -> None:
    """Serve the CPU as a device, one client after another, until the process is killed."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    library = next(folder / name for name in LIBRARIES if (folder / name).exists())
    device = ggml_function("ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)(b"CPU")
    start = ctypes.CDLL(str(library)).ggml_backend_rpc_start_server
    size, text = ctypes.c_size_t, ctypes.c_char_p
    start.restype, start.argtypes = None, (text, text, size, size, ctypes.c_void_p)
    devices = (ctypes.c_void_p * 1)(device)
    start(f"127.0.0.1:{port}".encode(), None, 1, len(devices), devices)


def main() -> None:
    lib.llama_backend_init()
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    else:
        spec = msgspec.json.decode(sys.stdin.buffer.read(), type=PlacedLoad)
        sys.stdout.buffer.write(msgspec.json.encode(load_here(spec)))


if __name__ == "__main__":
    main()
