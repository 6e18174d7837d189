"""What a client puts in front of its system prompt about itself."""

from __future__ import annotations

import pytest
from outrider.daemon.api.anthropic.attribution import strip_attribution

pytestmark = pytest.mark.unit

HEADER = "x-anthropic-billing-header: cc_version=2.1.77.a3f; cc_entrypoint=cli; cch=f0e67;"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (HEADER, ""),
        (HEADER + "\nBe kind.\n", "Be kind.\n"),
        (HEADER + "\r\nBe kind.", "Be kind."),
        (HEADER + "Be kind; a=b;", "Be kind; a=b;"),
        (HEADER + "\n" + HEADER + "\nBe kind.", "Be kind."),
        (HEADER + "\n\nBe kind.", "\nBe kind."),
        (HEADER.removesuffix(";") + "\nBe kind.", "Be kind."),
        ("X-Anthropic-Billing-Header: whatever else\nBe kind.", "Be kind."),
        ("x-anthropic-billing-header: .", ""),
        ("cch=0ab12;\nBe kind.", "Be kind."),
        ("cch=0ab12 Be kind.", "Be kind."),
    ],
)
def test_it_is_removed_and_the_rest_stays(text: str, left: str) -> None:
    assert strip_attribution(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  Be kind.\n",
        "Be kind.\n" + HEADER,
        "Say cch=0ab12; now.",
        "The x-anthropic-billing-header: is a line.",
        "cch is a word",
    ],
)
def test_any_other_text_is_left_alone(text: str) -> None:
    assert strip_attribution(text) == text


def test_two_hashes_give_one_prompt() -> None:
    other = HEADER.replace("f0e67", "00000").replace("a3f", "c21")
    assert strip_attribution(HEADER + "\nBe kind.") == strip_attribution(other + "\nBe kind.")
