"""Which message a fault becomes, and which faults end the runner instead."""

from __future__ import annotations

import pytest
from outrider.daemon.errors import BadRequest, DecodeFailed
from outrider.daemon.protocol import Failed
from outrider.daemon.runner.faults import INTERNAL, failed

pytestmark = pytest.mark.unit


class Panic(BaseException):
    """What pyo3 raises where Rust panics: no Exception."""


def test_an_error_for_the_user_keeps_its_kind_and_text() -> None:
    assert failed(3, BadRequest("no")) == Failed(3, "BadRequest", "no")


@pytest.mark.parametrize("fault", [ValueError("secret"), Panic("secret"), MemoryError("secret")])
def test_the_cause_of_any_other_fault_is_in_the_log_alone(
    fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    assert failed(3, fault) == Failed(3, "RunnerError", INTERNAL)
    assert "request 3 failed" in caplog.text
    assert "secret" in caplog.text


@pytest.mark.parametrize("fault", [DecodeFailed("lost"), KeyboardInterrupt(), SystemExit(1)])
def test_what_must_end_the_runner_is_raised(fault: BaseException) -> None:
    with pytest.raises(type(fault)):
        failed(3, fault)
