"""The probe of devices: a process that prints JSON, and ends although a driver hangs."""

from __future__ import annotations

import subprocess
import sys
import time

import msgspec
import pytest
from outrider.daemon.runner.llama.probe import DeviceProbe
from outrider.daemon.runners.machine import Gpu

pytestmark = pytest.mark.unit

HANGING = """
import time
from outrider.daemon.runner import devices
from outrider.daemon.runner.llama import probe
devices.PROBE_S, probe.probe_devices = 0.05, lambda: time.sleep(60)
devices.main()
"""


def test_the_probe_names_backends_and_devices() -> None:
    command = [sys.executable, "-m", "outrider.daemon.runner.devices"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert not done.stderr
    probe = msgspec.json.decode(done.stdout, type=DeviceProbe)
    assert "CPU" in probe.backends
    (cpu,) = (device for device in probe.devices if device.kind == "cpu")
    assert cpu.total_bytes > 1 << 28
    assert probe.bindings == "0.3.36"
    assert {gpu.name for gpu in probe.gpus} <= {device.name for device in probe.devices}
    assert probe.supports_gpu_offload or not probe.gpus


def test_the_front_reads_its_gpus() -> None:
    """They have the fields of `Gpu`, whatever there are of them."""
    fields = {field.name for field in msgspec.inspect.type_info(Gpu).fields}  # type: ignore[attr-defined]
    (gpus,) = (f for f in msgspec.structs.fields(DeviceProbe) if f.name == "gpus")
    assert {field.name for field in msgspec.structs.fields(gpus.type.__args__[0])} == fields


def test_a_driver_that_hangs_is_left() -> None:
    start_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, timeout=30)
    assert time.monotonic() - start_s < 10
    assert done.returncode == 1
    assert b"probe_devices" in done.stderr or b"<lambda>" in done.stderr
