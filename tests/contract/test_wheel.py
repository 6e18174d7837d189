"""The sdist and the wheel: built outside of the checkout, installed, and served from."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from daemons import start_daemon
from tiny import write_llama
from weights import import_gguf

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SOURCES = ("daemon", "models", "quant", "systemd")
FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")
PAGE = "daemon/ui/probe.html"  # stands for the files of the page
SDIST = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


def run(*argv: str | Path, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(argv, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with what pyproject.toml asks for, which pip fetches."""
    folder = tmp_path_factory.mktemp("builder")
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    fetch = [python, *PIP, "install", "setuptools>=77", "wheel"]
    done = subprocess.run(fetch, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot fetch setuptools here: {done.stderr.splitlines()[-1:]}")
    return python


@pytest.fixture(scope="module")
def sdist(builder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    (source / PAGE).parent.mkdir(exist_ok=True)
    (source / PAGE).write_text("<p>")
    out = tmp_path_factory.mktemp("sdist")
    run(builder, "-W", "error::DeprecationWarning", "-c", SDIST, out, cwd=source)
    (found,) = out.glob("outrider-*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(builder: Path, sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, so that it holds all that is needed."""
    out = tmp_path_factory.mktemp("wheel")
    run(builder, *PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", out, sdist, cwd=out)
    (found,) = out.glob("outrider-*.whl")
    return found


def test_the_sdist_has_what_a_packager_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*FILES, PAGE, "systemd/outrider.service"} <= names


def test_the_wheel_has_all_code_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        stated = {name.rpartition("/")[2]: name for name in archive.namelist()}
        metadata = email.message_from_bytes(archive.read(stated["METADATA"]))
        scripts = archive.read(stated["entry_points.txt"]).decode()
    tops = ("daemon", "models", "quant")
    code = {path.relative_to(ROOT) for top in tops for path in (ROOT / top).rglob("*.py")}
    pages = {path.relative_to(ROOT) for path in (ROOT / "daemon/ui").rglob("*") if path.is_file()}
    assert names == {f"outrider/{path}" for path in {*code, *pages, Path(PAGE)}}
    assert "outrider = outrider.daemon.cli.entry:main" in scripts
    _check_metadata(metadata)
    assert "LICENSE" in stated


def _check_metadata(metadata: Message) -> None:
    assert metadata["Name"] == "outrider"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "# Outrider" in str(metadata.get_payload())


def test_an_empty_venv_serves_from_the_wheel(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries are those of the tests, so that llama.cpp is not built again."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin/python"
    run(python, *PIP, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", show, cwd=home).strip())
    (site / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import outrider.daemon as d; print(d.__file__)", cwd=tmp_path)
    assert where.startswith(str(site))
    assert "0.1.0" in run(home / "bin/outrider", "--version", cwd=tmp_path)
    import_gguf(tmp_path / "models", "tiny", write_llama(tmp_path / "t.gguf"))
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with start_daemon(tmp_path / "models", tmp_path) as daemon:
        body = {"model": "tiny", "prompt": "x", "stream": False, "options": {"num_predict": 2}}
        status, answer = daemon.post("/api/generate", body)
        assert (status, answer["done"]) == (200, True)
        (runner,) = daemon.runners()
        assert runner.cmdline()[0] == str(python)
