"""Which errors concern models on disk, pulled or created.

ModelError
├── InvalidName       the text is not a model name
├── InvalidDigest     the text is not a sha256 digest
├── DigestMismatch    the bytes do not have the expected digest
├── ModelNotFound     no manifest of that name
├── DamagedModel      the manifest is unreadable, or a blob is missing or of the wrong size
├── PullFailed        the model could not be pulled; the store is unchanged
├── InvalidModelfile  the text is not a Modelfile
└── CreateRefused     the spec does not make a model; the store is unchanged
"""


class ModelError(Exception):
    """Base of the errors of this package."""


class InvalidName(ModelError):
    """The text does not follow the name grammar (CONTRACT 6.3)."""


class InvalidDigest(ModelError):
    """The text does not follow the digest grammar (CONTRACT 1.15)."""


class DigestMismatch(ModelError):
    """The content has the digest `got` instead of `want` (both `sha256:<hex>`)."""

    def __init__(self, want: str, got: str) -> None:
        super().__init__(f'digest mismatch, expected "{want}", got "{got}"')
        self.want = want
        self.got = got


class ModelNotFound(ModelError):
    """No model of that name is in the store; `name` is the name as requested."""

    def __init__(self, name: str) -> None:
        super().__init__(f"model '{name}' not found")
        self.name = name


class DamagedModel(ModelError):
    """The files of a model are unusable; the text names the file and the remedy."""


class PullFailed(ModelError):
    """A model could not be pulled; the text gives the reason and the remedy."""


class InvalidModelfile(ModelError):
    """The text does not follow the Modelfile grammar (CONTRACT 7.1)."""


class CreateRefused(ModelError):
    """A model cannot be created from its spec; the text gives the reason and the remedy."""
