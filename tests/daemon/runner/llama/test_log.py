"""What is read from llama.cpp's log: sizes by device and part, devices of layers, causes."""

from __future__ import annotations

import pytest
from outrider.daemon.protocol import DeviceBytes
from outrider.daemon.runner.llama.devices import Device
from outrider.daemon.runner.llama.log import LlamaLog, find_device

pytestmark = pytest.mark.unit

MIB = 1 << 20
RPC_BUFFER = "RPC0[127.0.0.1:50052]"  # its number is the server's, and the device's is not
CUDA0 = Device("CUDA0", "a GPU", "gpu", "CUDA", 0, "CUDA0")
CUDA1 = Device("CUDA1", "a GPU", "gpu", "CUDA", 0, "CUDA1")
REMOTE = Device("RPC1", "a GPU", "gpu", "RPC", 0, RPC_BUFFER)
INFO, DEBUG, ERROR = 2, 1, 4


def read(log: LlamaLog, *lines: str, level: int = INFO) -> None:
    for line in lines:
        log.read(level, f"{line}\n".encode())


def test_sizes_are_by_device_and_part() -> None:
    log = LlamaLog()
    read(
        log,
        "load_tensors:   CPU_Mapped model buffer size =   128.00 MiB",
        "load_tensors:        CUDA0 model buffer size =  4096.00 MiB",
        "load_tensors:        CUDA1 model buffer size =  2048.50 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB",
        "llama_memory_recurrent:      CUDA0 RS buffer size =     8.00 MiB",
        "llama_context:  CUDA_Host  output buffer size =     1.00 MiB",
        "sched_reserve:      CUDA0 compute buffer size =   300.00 MiB",
        "sched_reserve:  CUDA_Host compute buffer size =    16.00 MiB",
        "llama_adapter_lora_init_impl:      CUDA0 LoRA buffer size =     3.00 MiB",
        "init:      CUDA0 DSV4 csa state buffer size =     2.00 MiB",
    )
    assert log.measure([CUDA0, CUDA1]) == (
        DeviceBytes("CPU", False, weights_bytes=128 * MIB, compute_bytes=17 * MIB),
        DeviceBytes(
            "CUDA0",
            True,
            weights_bytes=4096 * MIB,
            cache_bytes=522 * MIB,
            compute_bytes=300 * MIB,
            adapter_bytes=3 * MIB,
        ),
        DeviceBytes("CUDA1", True, weights_bytes=2048 * MIB + MIB // 2),
    )


def test_two_caches_of_one_device_add_up() -> None:
    """A model with sliding windows has one for them and one for its other layers."""
    log = LlamaLog()
    read(log, *["llama_kv_cache:        CPU KV buffer size =    6.00 MiB"] * 2)
    assert log.measure([]) == (DeviceBytes("CPU", False, cache_bytes=12 * MIB),)


def test_a_compute_buffer_that_is_made_anew_counts_once() -> None:
    """Adapters make llama.cpp reserve it again at the first decode."""
    log = LlamaLog()
    read(log, "sched_reserve:        CPU compute buffer size =    6.00 MiB")
    read(log, "sched_reserve:        CPU compute buffer size =    7.00 MiB")
    assert log.measure([]) == (DeviceBytes("CPU", False, compute_bytes=7 * MIB),)


def test_mapped_weights_are_those_that_lie_nowhere_else() -> None:
    """The mapped buffer spans the file from the first to the last tensor on the host."""
    log = LlamaLog()
    read(
        log,
        "load_tensors:   CPU_Mapped model buffer size =    90.00 MiB",
        "load_tensors:        CUDA0 model buffer size =    60.00 MiB",
    )
    log.limit_mapped(100 * MIB, 8 * MIB)
    sizes = {found.device: found.weights_bytes for found in log.measure([CUDA0])}
    assert sizes == {"CPU": 48 * MIB, "CUDA0": 60 * MIB}


def test_repacked_weights_count_once() -> None:
    log = LlamaLog()
    read(
        log,
        "load_tensors:   CPU_Mapped model buffer size =   100.00 MiB",
        "load_tensors:   CPU_REPACK model buffer size =    70.00 MiB",
    )
    log.limit_mapped(100 * MIB, 8 * MIB)
    assert log.measure([]) == (DeviceBytes("CPU", False, weights_bytes=100 * MIB),)


def test_all_of_a_drafter_is_one_part() -> None:
    log = LlamaLog()
    read(log, "sched_reserve:        CPU compute buffer size =    6.00 MiB")
    with log.of_drafter():
        read(
            log,
            f"load_tensors:        {RPC_BUFFER} model buffer size =    40.00 MiB",
            f"llama_kv_cache:      {RPC_BUFFER} KV buffer size =    2.00 MiB",
            "sched_reserve:        CPU compute buffer size =    1.00 MiB",
        )
    read(log, "sched_reserve:        CPU compute buffer size =    5.00 MiB")
    with_drafter = (
        DeviceBytes("CPU", False, compute_bytes=5 * MIB, drafter_bytes=MIB),
        DeviceBytes("RPC1", True, drafter_bytes=42 * MIB),
    )
    assert log.measure([REMOTE]) == with_drafter
    log.forget_drafter()
    assert log.measure([REMOTE]) == (DeviceBytes("CPU", False, compute_bytes=5 * MIB),)


def test_layers_are_those_of_the_target() -> None:
    log = LlamaLog()
    line = "load_tensors: layer {:3d} assigned to device {}, is_swa = 0"
    read(log, line.format(0, "CPU"), line.format(11, "CUDA1"), level=DEBUG)
    with log.of_drafter():
        read(log, line.format(0, "CUDA0"), level=DEBUG)
    assert log.layer_devices == {0: "CPU", 11: "CUDA1"}


@pytest.mark.parametrize(
    ("buffer", "device"),
    [
        ("CUDA0", "CUDA0"),
        ("CUDA0_Split", "CUDA0"),
        ("CUDA_Host", "CPU"),
        ("CUDA10", "CPU"),  # is not there
        ("Vulkan1", "Vulkan1"),
        ("Vulkan_Host", "CPU"),
        ("MTL0_Mapped", "MTL0"),
        (RPC_BUFFER, "RPC1"),
        ("RPC0[10.0.0.2:50052]", "CPU"),  # is not there
        ("CPU", "CPU"),
        ("CPU_Mapped", "CPU"),
        ("CPU_REPACK", "CPU"),
    ],
)
def test_buffers_belong_to_devices(buffer: str, device: str) -> None:
    names = {name: name for name in ("CUDA0", "Vulkan1", "MTL0")} | {RPC_BUFFER: "RPC1"}
    assert find_device(buffer, names) == device


def test_the_first_error_is_the_cause() -> None:
    log = LlamaLog()
    assert log.cause == "unknown"
    read(log, "llama_model_load: error loading model: no buffer", "again", level=ERROR)
    assert log.cause == "error loading model: no buffer"
