"""Are the options that a model may bring read and checked as Ollama does?"""

from __future__ import annotations

import logging

import pytest
from outrider.daemon.errors import BadRequest
from outrider.daemon.parameters import check_parameters, read_parameters

pytestmark = pytest.mark.unit


def test_text_gets_the_type_of_its_option() -> None:
    texts = [
        ("draft_num_predict", "8"),
        ("temperature", "0.5"),
        ("top_p", "1"),
        ("seed", "-7"),
        ("use_mmap", "false"),
        ("stop", "<a>"),
        ("temperature", "1e-1"),
        ("stop", " b"),
    ]
    assert read_parameters(texts) == {
        "draft_num_predict": 8,
        "temperature": 0.1,
        "top_p": 1.0,
        "seed": -7,
        "use_mmap": False,
        "stop": ["<a>", " b"],
    }


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("top_q", "1", "unknown parameter 'top_q'"),
        ("numa", "true", "unknown parameter 'numa'"),
        ("num_ctx", "4k", "invalid int value [4k]"),
        ("num_ctx", "1.5", "invalid int value [1.5]"),
        ("num_ctx", "1_000", "invalid int value [1_000]"),
        ("temperature", "hot", "invalid float value [hot]"),
        ("temperature", "nan", "invalid float value [nan]"),
        ("temperature", "1e999", "invalid float value [1e999]"),
        ("use_mmap", "yes", "invalid bool value [yes]"),
    ],
)
def test_bad_text(name: str, text: str, error: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_parameters([(name, text)])
    assert str(caught.value) == error


def test_good_values_stay_as_they_are() -> None:
    values = {"stop": ["a"], "top_k": 4.0, "temperature": 1, "use_mmap": True}
    assert check_parameters({**values, "seed": None}) == values


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("top_q", 1, "unknown parameter 'top_q'"),
        ("num_ctx", "4096", 'invalid int value ["4096"]'),
        ("draft_num_predict", True, "invalid int value [true]"),
        ("temperature", [1], "invalid float value [[1]]"),
        ("temperature", float("inf"), "invalid float value [inf]"),
        ("use_mmap", 1, "invalid bool value [1]"),
        ("stop", "a", 'option "stop" must be of type array'),
        ("stop", [1], 'option "stop" must be of an array of strings'),
    ],
)
def test_bad_values(name: str, value: object, error: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_parameters({name: value})
    assert str(caught.value) == error


def test_what_is_out_of_use_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_parameters([("f16_kv", "true")]) == {}
        assert check_parameters({"low_vram": True}) == {}
    assert caplog.messages == ["parameter f16_kv is deprecated", "parameter low_vram is deprecated"]
