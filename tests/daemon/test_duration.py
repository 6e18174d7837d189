"""Durations: every form of CONTRACT 1.6, and one clear text for every other."""

from __future__ import annotations

import math

import pytest
from outrider.daemon.duration import parse_duration, parse_go

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("1h0m0s", 3600),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("2.s", 2),
        ("100us", 1e-4),
        ("100µs", 1e-4),  # the micro sign
        ("100μs", 1e-4),  # the Greek letter
        ("7ns", 7e-9),
        ("+5m", 300),
        ("5m0s", 300),
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("0s", 0),
        ("-1m", -60),
        ("-1h30m", -5400),
    ],
)
def test_a_go_duration(text: str, seconds: float) -> None:
    assert parse_go(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5", "-5", "+12", "300"])
def test_a_number_in_quotes_lacks_its_unit(text: str) -> None:
    with pytest.raises(ValueError, match="missing unit") as caught:
        parse_go(text)
    assert str(caught.value) == f'time: missing unit in duration "{text}"'


@pytest.mark.parametrize(
    "text",
    ["", "-", "+", "m", ".s", "5 m", " 5m", "5m ", "5x", "1h5", "5m-3s", "--5m", "1,5s", "1e3s"],
)
def test_any_other_text_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^time: \w+") as caught:
        parse_go(text)
    assert f'"{text}"' in str(caught.value)


def test_an_empty_text_is_told_as_ollama_tells_it() -> None:
    with pytest.raises(ValueError, match=r'^time: invalid duration ""$'):
        parse_go("")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0), (5, 5), (2.5, 2.5), ("0", 0), ("0s", 0), ("10m", 600), (-0.0, 0)],
)
def test_json_numbers_are_seconds(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize("value", [-1, -0.5, "-1m", "-1ns", math.inf, "9" * 400 + "h"])
def test_negative_and_boundless_durations_mean_forever(value: object) -> None:
    assert parse_duration(value) == math.inf


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        (False, "bool"),
        ([], "[]interface {}"),
        ({}, "map[string]interface {}"),
        (None, "<nil>"),
    ],
)
def test_other_json_types_are_named(value: object, kind: str) -> None:
    with pytest.raises(ValueError, match="Unsupported type") as caught:
        parse_duration(value)
    assert str(caught.value) == f"Unsupported type: '{kind}'"


@pytest.mark.parametrize("value", [math.nan, 10**400, -(10**400)])
def test_numbers_that_are_no_duration_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a duration must"):
        parse_duration(value)
