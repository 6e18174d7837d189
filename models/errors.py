"""What can go wrong with a model on disk or on its way there?"""

import os
from pathlib import Path
from typing import Self


class ModelError(Exception):
    """Base of the expected errors of this folder."""


class InvalidName(ModelError):
    """The text does not follow the name grammar (CONTRACT 6.3)."""


class InvalidDigest(ModelError):
    """The text does not follow the digest grammar (CONTRACT 1.15)."""


class DigestMismatch(ModelError):
    """The content hashes to `got` where `want` was promised (both `sha256:<hex>`)."""

    def __init__(self, want: str, got: str) -> None:
        super().__init__(f'digest mismatch, expected "{want}", got "{got}"')
        self.want = want
        self.got = got


class ModelNotFound(ModelError):
    """No model of that name is in the store; `name` is the text of the request."""

    def __init__(self, name: str) -> None:
        super().__init__(f"model '{name}' not found")
        self.name = name


class DamagedModel(ModelError):
    """A model cannot be used as it lies on disk; the text names the file and the remedy."""


class UnreadableStore(ModelError):
    """A file or folder of the store cannot be used; the text names it, the reason, the remedy."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> Self:
        """The error for a path that the operating system refuses."""
        problem = "leads nowhere" if is_broken_link(path) else "cannot be used"
        return cls(f"{path} {problem} ({error.strerror}); check the path and its permissions")


class NoSpace(ModelError):
    """A file does not fit on the disk; the text has the bytes needed and those that are free."""


class PullFailed(ModelError):
    """A model could not be fetched; the text says why and what to do."""


class PushFailed(ModelError):
    """A model could not be sent to its registry; the text says why and what to do."""


class InvalidModelfile(ModelError):
    """The text does not follow the Modelfile grammar (CONTRACT 7.1)."""


class CreateFailed(ModelError):
    """A model could not be made; the text says why and what to do."""


class CreateRefused(ModelError):
    """A model cannot be made of what was named for it; the text says why and what to do."""


def is_broken_link(path: Path) -> bool:
    """Whether the path is a link whose target is not there; False if nobody may look."""
    return os.path.islink(path) and not os.path.exists(path)
