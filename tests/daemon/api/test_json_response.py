"""One JSON object as an answer."""

from __future__ import annotations

import pytest
from outrider.daemon.api.json_response import json_response

pytestmark = pytest.mark.unit


def test_the_json_is_compact() -> None:
    answer = json_response({"text": "ü", "n": [1, 2.5]}, {"Told": "3"})
    assert answer.body == '{"text":"ü","n":[1,2.5]}'.encode()
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Told"] == "3"
