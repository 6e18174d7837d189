"""Which questions /v1/systemone takes, and what it says of the others (CONTRACT 2.8)."""

from __future__ import annotations

import pytest
from outrider.daemon.api.systemone.questions import Option, Question, read_content, read_questions
from outrider.daemon.api.systemone.wire import DecisionQuestion
from outrider.daemon.errors import BadRequest

pytestmark = pytest.mark.unit

WRONG = "instructions must be a nonempty string, object, or array"
MANY = "criteria must contain 2–26 candidates"  # noqa: RUF001


def read(**fields: object) -> Question:
    (question,) = read_questions({"q": DecisionQuestion.model_validate(fields)})
    return question


def test_a_choice_keeps_its_order_and_a_key_may_describe_itself() -> None:
    criteria = {"Zebra": "An animal", "apple": None, "b": ""}
    question = read(type="choice", instructions="What?", criteria=criteria)
    assert question == Question(
        "q",
        "choice",
        "What?",
        (Option("Zebra", "An animal"), Option("apple", "apple"), Option("b", "")),
    )
    assert question.codes == ("A", "B", "C")


@pytest.mark.parametrize(
    ("criteria", "no", "yes"),
    [
        (None, "No", "Yes"),
        ({}, "No", "Yes"),
        ({"true": "It is"}, "No", "It is"),
        ({"true": "It is", "false": "It is not"}, "It is not", "It is"),
    ],
)
def test_a_noul_has_two_options(criteria: object, no: str, yes: str) -> None:
    question = read(type="noul", instructions="Is it?", criteria=criteria)
    assert question.options == (Option(False, no), Option(True, yes))


def test_a_score_has_one_option_for_each_level() -> None:
    question = read(type="score", instructions="How?", criteria=["low", "low", "high"])
    assert question.options == (Option("0", "low"), Option("1", "low"), Option("2", "high"))
    assert len(read(type="score", instructions="How?", criteria=["x"] * 26).codes) == 26


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (' "quoted" ', ' "quoted" '),
        ({"b": [1, None, "€"], "a": {}}, '{"b":[1,null,"€"],"a":{}}'),
        ([], "[]"),
    ],
)
def test_content_is_text_or_compact_json(value: object, text: str) -> None:
    assert read_content(value, "wrong") == text


@pytest.mark.parametrize("value", [None, "", " \n", 3, 1.5, True])
def test_other_content_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match="wrong"):
        read_content(value, "wrong")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"type": "choice", "criteria": {"a": None, "b": None}}, WRONG),
        ({"type": "noul", "instructions": " "}, WRONG),
        ({"type": "noul", "instructions": 4}, WRONG),
        ({"instructions": "x"}, "type must be choice, noul, or score"),
        ({"type": "box", "instructions": "x"}, "type must be choice, noul, or score"),
        (
            {"type": "choice", "instructions": "x", "criteria": ["a", "b"]},
            "choice criteria must map option keys to descriptions or null",
        ),
        (
            {"type": "choice", "instructions": "x", "criteria": {"a": "b", "c": 1}},
            "choice criteria must map option keys to descriptions or null",
        ),
        (
            {"type": "choice", "instructions": "x", "criteria": {" ": "b", "c": "d"}},
            "choice keys must not be empty",
        ),
        ({"type": "choice", "instructions": "x", "criteria": {"a": "only"}}, MANY),
        ({"type": "score", "instructions": "x", "criteria": ["x"] * 27}, MANY),
        (
            {"type": "score", "instructions": "x", "criteria": {"0": "a", "1": "b"}},
            "score criteria must be an array of descriptions",
        ),
        (
            {"type": "score", "instructions": "x", "criteria": ["a", None]},
            "score descriptions must be strings",
        ),
        (
            {"type": "noul", "instructions": "x", "criteria": {"true": None}},
            "noul descriptions must be strings",
        ),
        (
            {"type": "noul", "instructions": "x", "criteria": {"yes": "x"}},
            'unknown noul criterion "yes"',
        ),
        (
            {"type": "noul", "instructions": "x", "criteria": "x"},
            "noul criteria must be an object of true/false descriptions",
        ),
    ],
)
def test_a_wrong_question_is_named(fields: dict[str, object], text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(**fields)
    assert str(refused.value) == f'question "q": {text}'


def test_the_number_of_questions_and_their_names() -> None:
    noul = DecisionQuestion(type="noul", instructions="x")
    assert len(read_questions({str(i): noul for i in range(64)})) == 64
    for count in (0, 65):
        with pytest.raises(BadRequest, match=r"questions must contain 1.64 fields"):
            read_questions({str(i): noul for i in range(count)})
    with pytest.raises(BadRequest, match="field name must not be empty"):
        read_questions({" ": noul})
