"""JSON as Go writes it."""

from __future__ import annotations

import pytest
from outrider.daemon.chat.render.go_values import to_json

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": {"d": None, "c": [True, False]}}, '{"a":{"c":[true,false],"d":null},"b":1}'),
        ("\x01\t<&>\u2029é😀\\\"", '"\\u0001\\t\\u003c\\u0026\\u003e\\u2029é😀\\\\\\""'),
        (5.0, "5"),
        (-0.5, "-0.5"),
        (1e6, "1000000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e22, "1.5e+22"),
        (1e-6, "0.000001"),
        (1.25e-7, "1.25e-7"),
        (0.0, "0"),
        (12345678901234567890, "12345678901234567890"),
        ((), "[]"),
        ({}, "{}"),
    ],
)  # fmt: skip
def test_json(value: object, text: str) -> None:
    assert to_json(value) == text
