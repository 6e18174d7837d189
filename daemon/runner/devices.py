"""Which devices would a runner use? `python -m outrider.daemon.runner.devices` prints it as JSON.

A process of its own asks, for a driver may hang, and CUDA takes memory of a GPU for as long as a
process lives that has asked it for its free memory. No model is loaded.
"""

from __future__ import annotations

import faulthandler
import sys

from .package_parts import import_parts

PROBE_S = 20.0  # a driver that answers takes a second or two at its first call


def main() -> None:
    """Prints a DeviceProbe. Ends with status 1 and a traceback on stderr if a driver hangs."""
    faulthandler.dump_traceback_later(PROBE_S, exit=True)
    import_parts()
    from .llama.probe import probe_devices

    sys.stdout.buffer.write(probe_devices() + b"\n")


if __name__ == "__main__":
    main()
