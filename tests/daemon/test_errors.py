"""Errors: the drawn tree is complete, and one from a runner comes back as what it was."""

from __future__ import annotations

import pytest
from outrider.daemon import errors
from outrider.daemon.errors import OutriderError, RunnerError, revive

pytestmark = pytest.mark.unit

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, OutriderError)
}


def test_the_tree_is_the_one_that_is_drawn() -> None:
    assert errors.__doc__
    assert len(CLASSES) > 10
    assert all(name in errors.__doc__ for name in CLASSES)
    for name in ("LoadFailed", "RunnerDied", "DecodeFailed"):
        assert issubclass(CLASSES[name], RunnerError)


@pytest.mark.parametrize(
    "kind", ["BadRequest", "InvalidFormat", "TemplateFailed", "LoadFailed", "DecodeFailed"]
)
def test_a_known_error_comes_back_as_itself(kind: str) -> None:
    error = revive(kind, "why")
    assert type(error) is CLASSES[kind]
    assert str(error) == "why"


@pytest.mark.parametrize("kind", ["ZeroDivisionError", "Busy", "NotFound", "", "SystemExit"])
def test_any_other_name_is_a_plain_runner_error(kind: str) -> None:
    error = revive(kind, "why")
    assert type(error) is RunnerError
    assert str(error) == "why"
