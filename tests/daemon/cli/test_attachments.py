"""Paths of images in a message."""

import base64
from pathlib import Path

import pytest
from outrider.daemon.cli import attachments
from outrider.daemon.cli.attachments import AttachmentError, attach

pytestmark = pytest.mark.unit

CAN_SEE = ("completion", "vision")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cat.png").write_bytes(b"cat")
    (tmp_path / "my dog.JPG").write_bytes(b"dog")
    (tmp_path / "song.wav").write_bytes(b"song")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("what is {}/cat.png?", "what is ?"),
        ("./cat.png what is it", "what is it"),
        ("see ~/cat.png", "see"),
        ("see './cat.png' now", "see  now"),
        ("(./cat.png)", "()"),
    ],
)
def test_the_path_is_taken_out_and_the_file_is_sent(folder: Path, text: str, rest: str) -> None:
    sent = attach(text.format(folder), "m", CAN_SEE)
    files = [base64.b64decode(file) for file in sent.files]
    assert files == [b"cat"]
    assert sent.text == rest.strip()


@pytest.mark.parametrize("path", [r"./my\ dog.JPG", '"my dog.JPG"', "'{}/my dog.JPG'"])
def test_a_path_may_have_blanks(folder: Path, path: str) -> None:
    sent = attach(f"look: {path.format(folder)} please", "m", CAN_SEE)
    assert [base64.b64decode(file) for file in sent.files] == [b"dog"]


@pytest.mark.parametrize(
    "text",
    ["./none.png", "cat.png", "https://host/cat.png", "./cat.pngs", "~nobody-here/x.png", "a\n b "],
)
def test_what_is_no_file_stays_text(folder: Path, text: str) -> None:
    sent = attach(text, "m", ())
    assert (sent.text, sent.files) == (text, ())


def test_two_files_keep_their_order(folder: Path) -> None:
    (folder / "b.webp").write_bytes(b"b")
    sent = attach("./b.webp ./cat.png compare", "m", CAN_SEE)
    assert [base64.b64decode(file) for file in sent.files] == [b"b", b"cat"]


def test_a_model_without_vision_is_refused(folder: Path) -> None:
    with pytest.raises(AttachmentError, match=r"m cannot see images: leave out cat\.png, or"):
        attach("what is ./cat.png", "m", ("completion",))
    with pytest.raises(AttachmentError, match="m cannot hear sounds"):
        attach("what is ./song.wav", "m", CAN_SEE)


def test_unknown_capabilities_are_left_to_the_daemon(folder: Path) -> None:
    assert len(attach("./cat.png", "m", None).files) == 1


def test_a_file_that_is_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_BYTES", 2)
    with pytest.raises(AttachmentError, match="has 3 bytes; at most 2 can be sent"):
        attach("./cat.png", "m", CAN_SEE)
