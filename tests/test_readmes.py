"""Do the files and functions that the READMEs name exist?"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
STEP = re.compile(r"^\| \d+ \| `([\w/.]+)` \| `([\w.]+)` \|", re.MULTILINE)
PATH = re.compile(r"`((?:[\w-]+/)*[\w-]+\.(?:py|md|service)|(?:[\w-]+/)+)`")
READMES = (
    *("README.md", "daemon/README.md", "daemon/chat/README.md", "models/README.md"),
    "quant/README.md",
    "tests/README.md",
)
FOLDERS = ("daemon", "models", "quant", "systemd", "tests")


def walk() -> list[tuple[str, str]]:
    """The steps of a request in daemon/README.md: file and function."""
    return STEP.findall((ROOT / "daemon/README.md").read_text("utf-8"))


def definitions(path: Path) -> set[str]:
    """Functions of a module, and methods as Class.method."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(path.read_text("utf-8")).body
    methods = {
        f"{node.name}.{member.name}"
        for node in body
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, functions)
    }
    return methods | {node.name for node in body if isinstance(node, functions)}


def test_the_walk_of_a_request_has_at_most_nine_files() -> None:
    files = [file for file, _ in walk()]
    assert 5 < len(files) <= 9
    assert len(set(files)) == len(files)


def test_every_step_of_the_walk_is_a_function() -> None:
    missing = []
    for file, function in walk():
        path = ROOT / "daemon" / file
        if not path.is_file() or function not in definitions(path):
            missing.append(f"daemon/{file} has no {function}")
    assert not missing, "\n".join(missing)


def files_and_folders() -> list[str]:
    """All paths of the code, as "/daemon/cli/" and "/daemon/cli/table.py"."""
    found = [path for folder in FOLDERS for path in [ROOT / folder, *(ROOT / folder).rglob("*")]]
    return [f"/{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}" for path in found]


@pytest.mark.parametrize("readme", READMES)
def test_every_path_exists(readme: str) -> None:
    paths = PATH.findall((ROOT / readme).read_text("utf-8"))
    assert len(paths) > 4
    known = files_and_folders()
    absent = [path for path in paths if not any(name.endswith(f"/{path}") for name in known)]
    assert not absent, f"{readme}: {absent}"


def test_every_step_is_found() -> None:
    text = "| 1 | `api/a.py` | `A.b` | hands on |\n| x | `c.py` | `d` |\n| 12 | `e.py` | `f` | g |"
    assert STEP.findall(text) == [("api/a.py", "A.b"), ("e.py", "f")]
