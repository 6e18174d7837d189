"""Files of settings: what systemd would read, and what stays when settings are merged in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outrider.daemon.environment_file import merge_environment, parse_environment

pytestmark = pytest.mark.unit


def test_lines_quotes_and_comments() -> None:
    text = '# A=1\n; B=2\n A = x \nB=\'y "z\'\nC="a \\"b\\" \\\\"\nno line\n1D=4\nE=\nF=a=b\n'
    expected = {"A": "x", "B": 'y "z', "C": 'a "b" \\', "E": "", "F": "a=b"}
    assert parse_environment(text) == expected


def test_only_the_given_settings_change() -> None:
    old = "# mine\nOUTRIDER_DEBUG=1\nHF_TOKEN=secret\n"
    new = merge_environment(old, {"OUTRIDER_DEBUG": "0", "OUTRIDER_HOST": "[::1]:1"})
    assert new == '# mine\nOUTRIDER_DEBUG=0\nHF_TOKEN=secret\nOUTRIDER_HOST="[::1]:1"\n'
    assert merge_environment(new, {"OUTRIDER_DEBUG": "0"}) == new


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])))
def test_a_value_reads_as_it_was_written(value: str) -> None:
    assert parse_environment(merge_environment("", {"A": value})) == {"A": value}


def test_a_value_of_several_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="A has a line break"):
        merge_environment("", {"A": "x\ny"})
