"""Options: types, texts and precedence of CONTRACT 1.5."""

from __future__ import annotations

import logging
import math

import pytest
from outrider.daemon.errors import BadRequest
from outrider.daemon.options import OptionError, Options
from outrider.daemon.protocol import Limits, Sampling

pytestmark = pytest.mark.unit

INTEGERS = (
    *("top_k", "repeat_last_n", "num_predict", "num_keep"),
    *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread"),
)
NO_NUMBERS: tuple[object, ...] = ("7", True, [1], {})
FLOATS = (
    *("temperature", "top_p", "min_p", "typical_p"),
    *("repeat_penalty", "presence_penalty", "frequency_penalty"),
)


def test_the_defaults_are_ollamas() -> None:
    options = Options.merge()
    assert options == Options()
    assert (options.num_keep, options.seed, options.num_predict, options.top_k) == (4, -1, -1, 40)
    assert (options.temperature, options.top_p, options.min_p) == (0.8, 0.9, 0.0)
    assert (options.typical_p, options.repeat_last_n, options.repeat_penalty) == (1.0, 64, 1.0)
    assert (options.presence_penalty, options.frequency_penalty) == (0.0, 0.0)
    assert (options.stop, options.num_batch, options.num_gpu) == ((), 512, -1)
    assert (options.num_thread, options.use_mmap) == (0, None)


def test_the_protocol_has_the_same_defaults() -> None:
    assert Options().sampling() == Sampling()
    assert Options().limits(truncate=True, shift=True) == Limits()


def test_a_later_layer_wins_and_null_is_not_set() -> None:
    options = Options.merge(
        {"top_k": 1, "seed": 1, "temperature": 0.1, "stop": ["a"]},
        {"top_k": 2, "seed": None, "stop": None},
        {"top_k": None},
    )
    assert (options.top_k, options.seed, options.temperature) == (2, 1, 0.1)
    assert options.stop == ("a",)


def test_all_options_reach_the_runner() -> None:
    values = {**dict.fromkeys((*INTEGERS, "seed"), 3), **dict.fromkeys(FLOATS, 0.25), "stop": ["x"]}
    options = Options.merge(values)
    sampling, limits = options.sampling(), options.limits(truncate=False, shift=True)
    assert sampling == Sampling(
        temperature=0.25,
        top_k=3,
        top_p=0.25,
        min_p=0.25,
        typical_p=0.25,
        repeat_last_n=3,
        repeat_penalty=0.25,
        presence_penalty=0.25,
        frequency_penalty=0.25,
        seed=3,
    )
    assert limits == Limits(num_predict=3, num_keep=3, stop=("x",), truncate=False, shift=True)


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_take_any_number_and_truncate_it(name: str) -> None:
    for value, expected in [(7, 7), (7.9, 7), (-2.9, -2), (2**40, 2**31 - 1), (-1e30, -(2**31))]:
        assert getattr(Options.merge({name: value}), name) == expected


@pytest.mark.parametrize("name", FLOATS)
def test_floats_take_any_number(name: str) -> None:
    value = getattr(Options.merge({name: 1}), name)
    assert value == 1.0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("name", "kind", "bad"),
    [
        *((name, "integer", bad) for name in INTEGERS for bad in NO_NUMBERS),
        *((name, "float32", bad) for name in FLOATS for bad in (*NO_NUMBERS, 10**400)),
        *(("use_mmap", "boolean", bad) for bad in ("true", 1, 0.0, NO_NUMBERS[2])),
        *(("stop", "array", bad) for bad in ("x", 1, True, NO_NUMBERS[3])),
    ],
)
def test_a_wrong_type_is_named(name: str, kind: str, bad: object) -> None:
    with pytest.raises(OptionError) as caught:
        Options.merge({name: bad})
    assert str(caught.value) == f'option "{name}" must be of type {kind}'


def test_an_empty_list_takes_no_stop_string_away() -> None:
    assert Options.merge({"stop": ["<end>"]}, {"stop": []}).stop == ("<end>",)


@pytest.mark.parametrize("bad", [[1], ["a", None], [["a"]]])
def test_stop_takes_strings_only(bad: object) -> None:
    with pytest.raises(OptionError, match=r'^option "stop" must be of an array of strings$'):
        Options.merge({"stop": bad})


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean(value: bool) -> None:
    assert Options.merge({"use_mmap": value}).use_mmap is value


def test_unknown_options_are_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Options.merge({"tfs_z": "what", "Temperature": 1}) == Options()
    assert "invalid option provided: tfs_z" in caplog.messages
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("name", [*INTEGERS, "seed"])
@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**400, math.inf, math.nan])
def test_an_integer_beyond_64_bits_is_refused(name: str, value: float) -> None:
    with pytest.raises(BadRequest, match=f'^option "{name}" must be an integer of 64 bits$'):
        Options.merge({name: value})


def test_many_stop_strings_and_many_unknown_names(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadRequest, match=r'^option "stop" has 257 items; at most 256$'):
        Options.merge({"stop": ["a"] * 257})
    assert Options.merge({str(number): number for number in range(1000)}) == Options()
    assert len(caplog.messages) == 9
    assert caplog.messages[-1] == "and 992 more invalid options"


def test_wide_seeds_stay_different() -> None:
    given = (0, 7, 2**31 - 1, 2**31, 1_732_705_632_123, 1_732_705_632_124, 2**64 - 1)
    seeds = [Options.merge({"seed": seed}).seed for seed in given]
    assert seeds[:3] == [0, 7, 2**31 - 1]
    assert len(set(seeds)) == len(given)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert Options.merge({"seed": -5}).seed == -1
