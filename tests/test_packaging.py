"""The package contains every folder with code, and its version is that of the changelog."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^## \[?v?(\d+\.\d+\.\d+)\]?", re.MULTILINE)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def folders_with_code(top: str) -> set[str]:
    return {
        ".".join(path.parent.relative_to(ROOT).parts) for path in sorted((ROOT / top).rglob("*.py"))
    }


def test_every_folder_with_code_is_packaged(project: dict[str, Any]) -> None:
    setuptools = project["tool"]["setuptools"]
    tops = set(setuptools["package-dir"].values())
    folders = {f"outrider.{folder}" for top in tops for folder in folders_with_code(top)}
    assert set(setuptools["packages"]) == folders
    assert len(setuptools["packages"]) == len(folders), "none is named twice"


def test_every_top_folder_is_a_package(project: dict[str, Any]) -> None:
    for package, folder in project["tool"]["setuptools"]["package-dir"].items():
        assert (ROOT / folder / "__init__.py").is_file(), package
        assert package == f"outrider.{folder}"


def test_no_code_lies_outside_the_top_folders(project: dict[str, Any]) -> None:
    tops = set(project["tool"]["setuptools"]["package-dir"].values())
    assert not list(ROOT.glob("*.py"))
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == tops


def test_the_command_leads_to_a_function(project: dict[str, Any]) -> None:
    module, _, function = project["project"]["scripts"]["outrider"].partition(":")
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    assert re.search(rf"^def {function}\(", path.read_text(), re.MULTILINE)


def test_the_changelog_begins_with_this_version(project: dict[str, Any]) -> None:
    headings = HEADING.findall((ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == project["project"]["version"]
    newest_first = sorted(headings, key=lambda text: [int(n) for n in text.split(".")])[::-1]
    assert headings == newest_first


def test_the_installed_package_is_this_one(project: dict[str, Any]) -> None:
    assert version("outrider") == project["project"]["version"]
