"""How the fault of one request becomes the message that ends this request and nothing else."""

from __future__ import annotations

import logging

from ..errors import DecodeFailed, OutriderError, RunnerError
from ..protocol import Failed

INTERNAL = (
    "internal error: this request could not be processed; the log of the daemon has the cause"
)
FATAL = (DecodeFailed, KeyboardInterrupt, SystemExit)

# Characters of an error that a client gets: a header of a model, or a schema of a client, may be
# quoted in it, and have megabytes.
MAX_TEXT = 2000

log = logging.getLogger("outrider.runner")


def shortened(text: str) -> str:
    """The text, without its middle if it is too long."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]} ... {text[-half:]}"


def failed(request_id: int, fault: BaseException) -> Failed:
    """The answer to a request that raised `fault`, also one that is no Exception.

    A panic of a Rust library (llguidance) derives from BaseException alone. The text of an
    OutriderError is for the user; of anything else only the log has the cause. Raises `fault`
    itself if it must end the runner: a failed decode, or a request to exit.
    """
    if isinstance(fault, FATAL):
        raise fault
    if isinstance(fault, OutriderError):
        log.info("request %d refused: %s (cause: %r)", request_id, fault, fault.__cause__)
        return Failed(request_id, type(fault).__name__, shortened(str(fault)))
    log.error("request %d failed: %r", request_id, fault, exc_info=fault)
    return Failed(request_id, RunnerError.__name__, INTERNAL)
