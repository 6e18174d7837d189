"""Which files does a message name, to be sent with it (CONTRACT 10.3)?"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import OutriderError

MAX_BYTES = 100_000_000  # of one file (CONTRACT 10.3)
CAPABILITY = {"wav": "audio"}  # by suffix; all others are images
NEEDS = {"vision": "see images", "audio": "hear sounds"}

# A path has a slash, or else every mention of a name like cat.png would be one; a blank in it is
# escaped, or the path is quoted.
PATH = re.compile(
    r"""(?P<quote>['"])(?P<quoted>[^'"\n]+?\.(?:jpe?g|png|webp|wav))(?P=quote)"""
    r"""|(?P<bare>(?![(\[{<])(?:\\.|[^\s'"\\])*/(?:\\.|[^\s'"\\])*?\.(?:jpe?g|png|webp|wav))(?!\w)""",
    re.IGNORECASE,
)


class AttachmentError(OutriderError):
    """A file that a message names cannot be sent."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A message without the paths of its files, and these in base 64."""

    text: str
    files: tuple[str, ...] = ()


def attach(text: str, model: str, capabilities: Collection[str] | None) -> Attached:
    """Reads the files that the text names; a path of no file stays text.

    `capabilities` are those of the model, None if they are unknown. Raises AttachmentError for a
    file that the model cannot take, that is too large, or that cannot be read.
    """
    files: list[str] = []

    def take(match: re.Match[str]) -> str:
        path = _path(match)
        if not _is_file(path):
            return match[0]
        _check(path, model, capabilities)
        files.append(_read(path))
        return ""

    rest = PATH.sub(take, text)
    return Attached(rest.strip(), tuple(files)) if files else Attached(text)


def _path(match: re.Match[str]) -> Path:
    text = match["quoted"] or re.sub(r"\\(.)", r"\1", match["bare"])
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, for one
        return False


def _check(path: Path, model: str, capabilities: Collection[str] | None) -> None:
    needed = CAPABILITY.get(path.suffix[1:].lower(), "vision")
    if capabilities is not None and needed not in capabilities:
        raise AttachmentError(
            f"{model} cannot {NEEDS[needed]}: leave out {path}, or take a model that "
            f"has the capability {needed} (see 'outrider show MODEL')"
        )
    size_bytes = path.stat().st_size
    if size_bytes > MAX_BYTES:
        raise AttachmentError(
            f"{path} has {size_bytes} bytes; at most {MAX_BYTES} can be sent with a message"
        )


def _read(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise AttachmentError(f"{path} cannot be read: {error.strerror}") from error
