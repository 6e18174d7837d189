"""Which key proves who this user is to a registry (CONTRACT 6.1 and 6.4)."""

import base64
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An ed25519 key; `public` is base64 as in an OpenSSH `.pub` file."""

    public: str
    _private: Ed25519PrivateKey

    def sign(self, text: str) -> str:
        """The signature of the UTF-8 text, in base64."""
        return base64.b64encode(self._private.sign(text.encode())).decode()

    def authorise(self, text: str) -> str:
        """The value of an Authorization header that signs `text` (CONTRACT 6.4)."""
        return f"{self.public}:{self.sign(text)}"


def default_key_path() -> Path:
    """Where Ollama keeps the key too; registries know its public half."""
    return Path("~/.ollama/id_ed25519").expanduser()


def find_key(path: Path | None = None) -> SigningKey | None:
    """The user's key, made if there is none; None if it can be neither read nor made."""
    with suppress(OSError, RuntimeError, ValueError, UnsupportedAlgorithm):
        place = path or default_key_path()
        return _read(place) if place.is_file() else _make(place)
    return None


def _read(path: Path) -> SigningKey | None:
    key = load_ssh_private_key(path.read_bytes(), password=None)
    return _signing(key) if isinstance(key, Ed25519PrivateKey) else None


def _make(path: Path) -> SigningKey:
    """A new key pair in OpenSSH's format, the private half readable by its owner alone."""
    private = Ed25519PrivateKey.generate()
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    key = _signing(private)
    Path(f"{path}.pub").write_text(f"ssh-ed25519 {key.public}\n", encoding="ascii")
    return key


def _signing(private: Ed25519PrivateKey) -> SigningKey:
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return SigningKey(line.split()[1].decode(), private)
