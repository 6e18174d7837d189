"""Does every section that a comment cites exist?

A citation is the name of a document in capitals and its sections: "see GUIDE 2.3 and 2.4".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
DOCUMENTS = {
    "CONTRACT": ROOT / "daemon/api/CONTRACT.md",
    "GUIDE": ROOT / "daemon/runner/llama/GUIDE.md",
}
FOLDERS = ("daemon", "models", "quant", "systemd", "tests")
SUFFIXES = (".py", ".md", ".service")
SKIPPED = {".venv", ".cache", "build", ".types", "__pycache__"}

GAP = r"(?:[ \t]+|[ \t]*\n[ \t]*(?:#[ \t]*)?)"  # a blank, or a line break, also in a comment
NUMBER = r"\d+(?:\.\d+)?"
CITATION = re.compile(rf"\b(CONTRACT|GUIDE){GAP}({NUMBER}(?:(?:,|{GAP}and){GAP}{NUMBER})*)")
OLD = re.compile(
    r"\b(?:"
    rf"(?i:contract|guide)(?:'s)?{GAP}(?:\w+{GAP}in{GAP})?(?i:sections?)\b"
    rf"|(?:[Cc]ontract|[Gg]uide){GAP}\d"
    rf"|[Ee]ngine{GAP}[Gg]uide\b"
    r")"
)
HEADING = re.compile(rf"^#+ ({NUMBER})\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Citation:
    """One section of a document, and the line that cites it."""

    line: int
    document: str
    section: str


def citations(text: str) -> list[Citation]:
    """All sections that a text cites, in its order."""
    return [
        Citation(_line(text, match), match[1], section)
        for match in CITATION.finditer(text)
        for section in re.findall(NUMBER, match[2])
    ]


def old_lines(text: str) -> list[int]:
    """The lines where a citation of the old style begins: "contract section 1", "guide 2"."""
    return [_line(text, match) for match in OLD.finditer(text)]


def sections(text: str) -> set[str]:
    """The numbers of a document's headings."""
    return set(HEADING.findall(text))


def sources() -> Iterator[Path]:
    """What may cite; not this file, whose examples are made up."""
    yield from (ROOT / "README.md", ROOT / "Makefile")
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            is_source = path.suffix in SUFFIXES or path.name == "Makefile"
            is_ours = not SKIPPED & set(path.relative_to(ROOT).parts)
            if is_source and is_ours and path.is_file() and path != Path(__file__):
                yield path


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1


def _where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_cited_section_is_there() -> None:
    known = {name: sections(path.read_text("utf-8")) for name, path in DOCUMENTS.items()}
    missing = [
        f"{_where(path, cited.line)}: {cited.document} has no section {cited.section}"
        for path in sources()
        for cited in citations(path.read_text("utf-8"))
        if cited.section not in known[cited.document]
    ]
    assert not missing, "\n".join(missing)


def test_there_are_citations() -> None:
    """Or the test above would be content with nothing."""
    code = [path for path in sources() if path.suffix == ".py"]
    count = sum(len(citations(path.read_text("utf-8"))) for path in code)
    assert count > 60, f"only {count} citations were found in {len(code)} files"


def test_no_citation_has_the_old_style() -> None:
    old = [
        f'{_where(path, line)}: cite it as "CONTRACT 1.4" or "GUIDE 4.4"'
        for path in sources()
        for line in old_lines(path.read_text("utf-8"))
    ]
    assert not old, "\n".join(old)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(CONTRACT 1.4)", [(1, "CONTRACT", "1.4")]),
        ("As GUIDE 4 says.", [(1, "GUIDE", "4")]),
        ("# CONTRACT 4, Host check", [(1, "CONTRACT", "4")]),
        ("GUIDE 10.2: re-read", [(1, "GUIDE", "10.2")]),
        ("\nGUIDE 2.3 and 2.4.", [(2, "GUIDE", "2.3"), (2, "GUIDE", "2.4")]),
        ("CONTRACT 1.12, 1.13 and 2", [(1, "CONTRACT", n) for n in ("1.12", "1.13", "2")]),
        ("# (GUIDE\n    # 3.5,\n    # 3.6)", [(1, "GUIDE", "3.5"), (1, "GUIDE", "3.6")]),
        ("GUIDE 0.7, CONTRACT 1", [(1, "GUIDE", "0.7"), (1, "CONTRACT", "1")]),
        ("CONTRACT.md, a guide, MISGUIDE 1, the contract's text", []),
    ],
)
def test_citations_are_found(text: str, found: list[tuple[int, str, str]]) -> None:
    assert citations(text) == [Citation(*facts) for facts in found]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("(contract section 1.4)", [1]),
        ("a\n(contract sections 1.2 to 1.4)", [2]),
        ("guide 2.3; Guide 3", [1, 1]),
        ("as the engine guide\n3.5 says", [1]),
        ("by the contract's table in section 4", [1]),
        ("CONTRACT section 1.4", [1]),
        ("CONTRACT 1.4, the contract's texts, a guide for 2", []),
    ],
)
def test_the_old_style_is_found(text: str, lines: list[int]) -> None:
    assert old_lines(text) == lines


def test_headings_are_found() -> None:
    assert sections("# Title 1\n## 1. Native\n### 1.10 `x`\nsee 2.1\n## 12.\n") == {
        "1",
        "1.10",
        "12",
    }
