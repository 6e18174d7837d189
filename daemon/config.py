"""Which settings apply: flags, OUTRIDER_*, OLLAMA_*, defaults, in this order (CONTRACT 4)."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .duration import parse_duration
from .errors import ConfigError
from .protocol import MAX_DRAFTS

DEFAULT_PORT = 11434  # TCP (CONTRACT 4)
FALSE = {"", "0", "f", "false"}  # in lower case


def _flag(value: object) -> object:
    """Go's ParseBool, except that any other non-empty value counts as true."""
    return value.lower() not in FALSE if isinstance(value, str) else value


def _draft_length(value: object) -> object:
    """`auto`, `off`, or a number of tokens."""
    words = {"auto": None, "off": 0}
    if not isinstance(value, str):
        return value
    if value.lower() in words:
        return words[value.lower()]
    if value.isdecimal() and int(value) <= MAX_DRAFTS:
        return int(value)
    raise ValueError(f"must be auto, off, or a number of tokens up to {MAX_DRAFTS}")


def _env(name: str) -> AliasChoices:
    return AliasChoices(f"OUTRIDER_{name}", f"OLLAMA_{name}")


class Settings(BaseSettings):
    """All settings of the daemon and of the commands; built once at the edge."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore")

    address: str = Field("", validation_alias=_env("HOST"))
    port_override: int | None = Field(None, ge=0, le=65535)
    models: Path = Field(Path("~/.ollama/models"), validation_alias=_env("MODELS"))
    keep_alive_s: float = Field(300.0, validation_alias=_env("KEEP_ALIVE"))
    num_parallel: int = Field(4, ge=1, le=64, validation_alias=_env("NUM_PARALLEL"))
    context_length: int = Field(0, ge=0, validation_alias=_env("CONTEXT_LENGTH"))
    max_loaded_models: int = Field(0, ge=0, validation_alias=_env("MAX_LOADED_MODELS"))
    kv_cache_type: Literal["f32", "f16", "q8_0", "q4_0"] = Field(
        "f16", validation_alias=_env("KV_CACHE_TYPE")
    )
    speculation: Annotated[int | None, BeforeValidator(_draft_length)] = Field(
        None, validation_alias=_env("SPECULATION")
    )
    """Most tokens of one draft; None: as many as pay off; 0: no speculative decoding."""
    draft: Path | None = Field(None, validation_alias=_env("DRAFT"))
    """GGUF file of the drafter for models that have none of their own."""
    go_template: Annotated[bool | None, BeforeValidator(_flag)] = Field(
        None, validation_alias=_env("GO_TEMPLATE")
    )
    """Whether a Go template goes before the Jinja template; None: the better of the two."""
    cache_home: Path = Field(Path("~/.cache"), validation_alias="XDG_CACHE_HOME")
    origins: Annotated[tuple[str, ...], NoDecode] = Field((), validation_alias=_env("ORIGINS"))
    debug: Annotated[bool, BeforeValidator(_flag)] = Field(False, validation_alias=_env("DEBUG"))

    @classmethod
    def load(cls, *, port: int | None = None, **flags: object) -> Self:
        """Settings from the given flags (None means "not given") and the environment.

        A flag is named like its variable, in lower case: `num_parallel`. Raises ConfigError.
        """
        given = {f"OUTRIDER_{k}".upper(): v for k, v in flags.items() if v is not None}
        try:
            return cls(port_override=port, **given)  # type: ignore[arg-type]
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _trim(cls, values: dict[str, object]) -> dict[str, object]:
        """Trims blanks and surrounding quotes; what is empty then counts as not set."""
        trimmed = {
            k: v.strip().strip("\"'") if isinstance(v, str) else v for k, v in values.items()
        }
        return {key: value for key, value in trimmed.items() if value != ""}

    @field_validator("address")
    @classmethod
    def _check_address(cls, text: str) -> str:
        if any(char.isspace() for char in text):
            raise ValueError(f"{text!r} is not an address; try 127.0.0.1:11434")
        _split_address(text)
        return text

    @field_validator("models", "cache_home")
    @classmethod
    def _expand(cls, path: Path) -> Path:
        try:
            return path.expanduser().absolute()
        except RuntimeError:
            raise ValueError("there is no such home directory; write the path out") from None

    @field_validator("draft")
    @classmethod
    def _find(cls, path: Path | None) -> Path | None:
        if path is None:
            return None
        path = cls._expand(path)
        if not path.is_file():
            raise ValueError(f"there is no file {path}; name a drafter's GGUF file")
        return path

    @field_validator("keep_alive_s", mode="before")
    @classmethod
    def _keep_alive(cls, value: object) -> float:
        if isinstance(value, str) and value.removeprefix("-").isdecimal():
            value = int(value)
        return parse_duration(value)

    @field_validator("origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        for origin in value if isinstance(value, tuple) else ():
            if origin != "*" and "://" not in origin:
                raise ValueError(f"origin {origin!r} needs a scheme, such as https://{origin}")
        return value

    @property
    def host(self) -> str:
        """The address to bind; empty means every interface."""
        return _split_address(self.address)[1]

    @property
    def port(self) -> int:
        """The TCP port to bind or to reach."""
        return _split_address(self.address)[2] if self.port_override is None else self.port_override

    @property
    def base_url(self) -> str:
        """The URL under which a client reaches the daemon."""
        scheme, host, _, path = _split_address(self.address)
        if host in ("", "0.0.0.0", "::"):
            host = "127.0.0.1"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    @property
    def is_loopback(self) -> bool:
        """Whether the daemon is reachable from this machine only (CONTRACT 4, Host check)."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def _split_address(text: str) -> tuple[str, str, int, str]:
    """(scheme, host, port, path) of OLLAMA_HOST, by the table in CONTRACT 4."""
    scheme, _, rest = text.rpartition("://")
    default = {"": DEFAULT_PORT, "http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    if text == "ollama.com":
        scheme, default = "https", 443
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        raise ValueError(f"{text!r} is not an address; try 127.0.0.1:11434") from None
    try:
        port = parts.port if parts.port is not None else default
    except ValueError:
        port = DEFAULT_PORT
    host = parts.hostname or ("" if rest.startswith(":") else "127.0.0.1")
    return scheme or "http", host, port, parts.path.rstrip("/")


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    loc = str(first["loc"][0]).upper().removesuffix("_OVERRIDE")
    name = loc.removeprefix("OUTRIDER_").removeprefix("OLLAMA_")
    return f"{name}={first['input']!r}: {first['msg'].removeprefix('Value error, ')}"
