"""Does the code use the field's words, with one meaning each?

The left column of the tables below are names of earlier versions; the right column has the words of
daemon/README.md. Words that are ordinary English, too, are refused only where they were names.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
CODE = ("daemon", "models", "quant")
FOLDERS = (*CODE, "systemd", "tests")
TEXTS = ("README.md", "Makefile", "pyproject.toml")
SKIPPED = {".venv", ".cache", "build", ".types", "__pycache__"}

IN_NAMES = {  # as a word of any name: of a module, class, function, argument, attribute, variable
    "guess guesses guessed guessing": "draft",
    "ahead": "speculation, speculative",
    "purse": "budget",
    "berth berths": "loaded model",
    "errand errands": "operations",
    "intake": "input processor",
    "shelf shelved": "host cache",
    "sureness": "confidence",
    "outlook": "acceptance rate",
    "tally": "stats",
    "belief beliefs": "estimate",
    "pairing": "drafter loading",
    "keeper": "profile writer",
    "fleet": "pool",
    "house": "app state",
    "laid": "batch slice",
}
NAMES = {  # as a whole name
    "holding holdings": "cached sequence",
    "recall": "trim mode",
    "cell_pool": "cell allocator",
    "is_spent": "reached_max_tokens",
    "is_flowing": "past_first_token",
    "drawn": "output_tokens",
    "catch_up catches_up": "drafter prefill",
    "review reviewed": "teacher-forced evaluation",
    "rests": "paused",
    "affords": "can_spend",
    "ease": "predictability",
    "chance": "acceptance rate",
    "reach": "cumulative acceptance",
    "curve curves": "step cost",
    "learned": "profile",
    "wanted": "spec",
    "pace": "prefill budget",
}
CLASSES = (
    "Ask Belief Berth Call CellPool Curve Guess Holding House Intake Known Laid Learned Pace Purse "
    "Recall Rows Shelf Tally Wanted Writer"
)
MODULES = (
    "asking candidates card cells child errands fleet intake keeper keeping noise pairing proving "
    "quantities talking trial words"
)
EXTERNAL = {"GUESSED"}  # gguf's LlamaFileType
IN_TEXTS = {  # in comments, docstrings, strings and documents
    r"read(?:s|ing)?[ -]ahead": "speculative decoding",
    r"guess(?:es|ed|ing)?": "draft, draft token",
    r"purses?": "budget",
    r"berths?": "loaded model",
    r"errands?": "operation",
    r"sureness": "confidence",
    r"outlooks?": "acceptance rate",
    r"beliefs?": "estimate",
    r"cell pools?": "cell allocator",
    r"(?:catch(?:es|ing)?|caught) up": "drafter prefill",
}
IN_DOCS = {  # in comments, docstrings and documents
    r"houses?": "the daemon, the tree",
    r"fleets?": "pool",
    r"intakes?": "input processor",
    r"shel(?:f|ves|ved)": "host cache",
    r"keepers?": "profile writer",
    r"tall(?:y|ies)": "stats",
}
RUN_ON = re.compile(r"^#\s*(?:\.\.\.|…)|(?:\.\.\.|…)$")


@dataclass(frozen=True, slots=True)
class Found:
    """A word to replace, and where it stands."""

    path: Path
    line: int
    word: str
    better: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.word!r}, better: {self.better}"


def expanded(table: dict[str, str]) -> dict[str, str]:
    """A table by single words."""
    return {word: better for words, better in table.items() for word in words.split()}


WORDS_IN_NAMES, WHOLE_NAMES = expanded(IN_NAMES), expanded(NAMES)
PATTERNS = {re.compile(rf"\b{p}\b", re.IGNORECASE): better for p, better in IN_TEXTS.items()}
DOC_PATTERNS = {re.compile(rf"\b{p}\b", re.IGNORECASE): better for p, better in IN_DOCS.items()}


ANY_OF_THEM = re.compile("|".join([*IN_TEXTS, *IN_DOCS]), re.IGNORECASE)  # a fast first look


@cache
def words_of(name: str) -> list[str]:
    """`RegretBudget` and `regret_budget`: regret, budget."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def files(*suffixes: str, folders: tuple[str, ...] = FOLDERS) -> Iterator[Path]:
    """All files with a suffix, except this one."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and not SKIPPED & set(path.parts) and path != Path(__file__):
                yield path


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """All names that a module defines or uses, with their lines."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node.lineno
            case ast.Name():
                yield node.id, node.lineno
            case ast.Attribute():
                yield node.attr, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.value.lineno
            case ast.alias():
                yield node.asname or node.name.rpartition(".")[2], node.lineno


def bad_names(path: Path, tree: ast.AST) -> Iterator[Found]:
    for name, line in [(path.stem, 1), *names(tree)]:
        if name.strip("_").lower() in WHOLE_NAMES:
            yield Found(path, line, name, WHOLE_NAMES[name.strip("_").lower()])
        for word in words_of(name) if name not in EXTERNAL else ():
            if word in WORDS_IN_NAMES:
                yield Found(path, line, name, WORDS_IN_NAMES[word])


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of the nodes that are statements of a single string."""
    statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    return {id(value) for value in statements if isinstance(value, ast.Constant)}


def bad_texts(path: Path, tree: ast.AST) -> Iterator[Found]:
    """In strings and docstrings; comments are tokens, not nodes."""
    documents = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from search(path, node.lineno, node.value, is_doc=id(node) in documents)
    for line, comment in comments(path):
        yield from search(path, line, comment, is_doc=True)


def search(path: Path, first_line: int, text: str, *, is_doc: bool) -> Iterator[Found]:
    if not ANY_OF_THEM.search(text):
        return
    for pattern, better in (PATTERNS | DOC_PATTERNS if is_doc else PATTERNS).items():
        for match in pattern.finditer(text):
            line = first_line + text.count("\n", 0, match.start())
            yield Found(path, line, match[0], better)


@cache
def comments(path: Path) -> list[tuple[int, str]]:
    with path.open("rb") as file:
        tokens = tokenize.tokenize(file.readline)
        return [(t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT]


def runs_on(comment: str) -> bool:
    """Whether a comment needs another one to be understood."""
    return bool(RUN_ON.search(comment.strip()))


def listed(found: list[Found]) -> str:
    return "\n".join(map(str, dict.fromkeys(found)))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def test_no_name_is_an_old_one() -> None:
    found = [each for path in files(".py") for each in bad_names(path, parsed(path))]
    assert not found, listed(found)


def test_no_text_of_the_code_has_an_old_word() -> None:
    found = [each for path in files(".py") for each in bad_texts(path, parsed(path))]
    assert not found, listed(found)


def test_no_document_has_an_old_word() -> None:
    paths = [*files(".md", ".service"), *(ROOT / name for name in TEXTS)]
    texts = [(path, path.read_text("utf-8")) for path in paths]
    found = [each for path, text in texts for each in search(path, 1, text, is_doc=True)]
    assert not found, listed(found)


def test_no_class_or_module_has_an_old_name() -> None:
    classes = {name for name in classes_by_name() if name in CLASSES.split()}
    modules = {str(path.relative_to(ROOT)) for path in code() if path.stem in MODULES.split()}
    assert (classes, modules) == (set(), set())


def code() -> list[Path]:
    return list(files(".py", folders=CODE))


def classes_by_name() -> dict[str, list[str]]:
    """The files that define each class of the code."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in code():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    return found


def test_class_names_are_unique() -> None:
    twice = {name: paths for name, paths in classes_by_name().items() if len(paths) > 1}
    assert not twice, twice


def test_no_comment_runs_on_over_several_lines_of_code() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {comment}"
        for path in files(".py")
        for line, comment in comments(path)
        if runs_on(comment)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("class RegretPurse: ...", "RegretPurse"),
        ("x.num_guesses = 1", "num_guesses"),
        ("def run(*, ahead=0): ...", "ahead"),
        ("run(holding=1)", "holding"),
        ("from .speculation import curve", "curve"),
    ],
)
def test_old_names_are_found(source: str, word: str) -> None:
    path = ROOT / "tests/example.py"
    assert [found.word for found in bad_names(path, ast.parse(source))] == [word]


def test_other_names_are_left_alone() -> None:
    source = "class AcceptRate:\n    def call(self, options, recalled, household): self.rows = 1\n"
    assert list(bad_names(ROOT / "tests/example.py", ast.parse(source))) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [("It Reads\u0020ahead.", "Reads\u0020ahead"), ("a\u0020guess or two", "guess")],
)
def test_old_words_are_found(text: str, word: str) -> None:
    assert [found.word for found in search(ROOT / "x", 1, text, is_doc=False)] == [word]


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("# of a stream that is alone, ...", True),
        ("# ... and as many on a GPU", True),
        ("# a list [1, 2, ...] of numbers", False),
        ("# ends in a sentence.", False),
    ],
)
def test_run_on_comments_are_found(comment: str, expected: bool) -> None:
    assert runs_on(comment) == expected
