"""API keys: what is one, which file may hold them, and how they are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.daemon.api_keys import ApiKey, KeyRing, parse_keys, read_key_file
from outrider.daemon.errors import ConfigError

pytestmark = pytest.mark.unit


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_stands_alone_or_has_a_name() -> None:
    assert parse_keys("secret-1") == (ApiKey("default", "secret-1"),)
    assert parse_keys("phone:secret-1, secret-2") == (
        ApiKey("phone", "secret-1"),
        ApiKey("default-2", "secret-2"),
    )
    assert parse_keys("a:with:colon") == (ApiKey("a", "with:colon"),)
    assert "secret-1" not in repr(parse_keys("secret-1"))


@pytest.mark.parametrize(
    "text", ["short", "a b:secret-1", ":secret-1", "a:", "secret 12345", "sécret-1", "a:b,", "a:x"]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="is no API key") as caught:
        parse_keys(text)
    assert "secret" not in str(caught.value)


def test_names_are_distinct() -> None:
    with pytest.raises(ValueError, match="two API keys are named a"):
        parse_keys("a:secret-1,a:secret-2")


def test_a_ring_finds_the_name_of_a_key() -> None:
    ring = KeyRing(parse_keys("a:secret-1,b:secret-2"))
    assert [
        ring.find(text) for text in ("secret-1", "secret-2", "secret-3", "", "a", "é\udcff")
    ] == [
        *("a", "b"),
        *(None, None, None, None),
    ]
    assert (len(ring), len(KeyRing())) == (2, 0)
    assert KeyRing().find("") is None


def test_a_file_has_a_key_on_each_line(tmp_path: Path) -> None:
    keys = read_key_file(write(tmp_path, "# mine\n\nphone:secret-1\n  secret-2\n"))
    assert keys == (ApiKey("phone", "secret-1"), ApiKey("default-2", "secret-2"))


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=r"open to other users; run: chmod 600 "):
        read_key_file(write(tmp_path, "secret-1", mode))


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_modes_of_private_files(tmp_path: Path, mode: int) -> None:
    assert len(read_key_file(write(tmp_path, "secret-1", mode))) == 1


def test_files_that_hold_no_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key_file(tmp_path / "gone")
    with pytest.raises(ConfigError, match="holds no API key"):
        read_key_file(write(tmp_path, "# none\n"))
    with pytest.raises(ConfigError, match="entry 1 is no API key"):
        read_key_file(write(tmp_path, "a b c"))
