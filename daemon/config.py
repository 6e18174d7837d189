"""Which settings apply: flags, OUTRIDER_*, OLLAMA_*, defaults, in this order (CONTRACT 4)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from .address import Address
from .api_keys import KeyRing, check_exposure, parse_keys, read_key_file
from .authority import is_loopback
from .byte_size import parse_bytes
from .duration import parse_duration
from .errors import ConfigError
from .log_lines import LogFormat
from .origin_pattern import OriginPattern
from .protocol import MAX_DRAFTS

LEAST_MEMORY_BYTES = 1 << 20  # of a limit for all models
FALSE = {"", "0", "f", "false"}  # in lower case
KV_NAMES = {"fp16": "f16", "fp32": "f32"}  # other spellings of the types of the KV cache
OURS, OLLAMAS = "OUTRIDER_", "OLLAMA_"  # prefixes of variables; the first one wins
WITHOUT_PREFIX = {"XDG_CACHE_HOME"}
ONLY_FLAGS = {"PORT"}
# OLLAMA_API_KEY is the key that a client sends to Ollama's cloud: it does not lock a daemon.
ONLY_OURS = {
    *("API_KEY", "API_KEY_FILE", "INSECURE_LISTEN", "KEY_PARALLEL", "LOG_FORMAT"),
    *("MAX_CONNECTIONS", "MAX_CLIENT_CONNECTIONS", "IDLE_TIMEOUT", "HEADER_TIMEOUT"),
    *("SEND_TIMEOUT", "QUEUE_TIMEOUT", "MAX_STORED"),
}
SECRET = {"API_KEY"}  # values that no message tells
# A wrong value of one of these would open another port or another folder, or let in other pages,
# than its user wants; Ollama does not start with it either (CONTRACT 4).
NOT_TOLERATED = {"HOST", "MODELS", "ORIGINS"}
NO_TLS = (
    "HOST asks for https, which the daemon does not speak: it listens on {}, with plain HTTP; put "
    "a proxy that speaks TLS before it"
)
OPEN_TO_ALL = "whoever reaches {} from another machine may use the daemon without an API key"
UNUSED: Mapping[str, str] = {
    "AUTH": "requests between commands and daemon are not signed",
    "CLOUD_BASE_URL": "Outrider never contacts a cloud",
    "DEBUG_LOG_REQUESTS": "requests are not written to files",
    "EXPERIMENT": "there are no experiments",
    "LLM_LIBRARY": "llama.cpp has one library",
    "MAX_TRANSFER_STREAMS": "models of single tensors are not served",
    "NO_CLOUD": "Outrider never contacts a cloud",
    "REMOTES": "Outrider never contacts a cloud",
}
"""Variables of Ollama that change nothing here, each with the reason."""


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


def _duration(value: object) -> float:
    """Seconds of a duration, or of a number; negative: for ever."""
    if isinstance(value, str) and value.removeprefix("-").isdecimal():
        value = int(value)
    return parse_duration(value)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _kv_name(value: object) -> object:
    return KV_NAMES.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _byte_size(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _model_memory(size: int) -> int:
    """Fewer bytes are a size whose unit was forgotten."""
    if 0 < size < LEAST_MEMORY_BYTES:
        raise ValueError(f"{size} bytes hold no model; write a size such as 16GiB")
    return size


Flag = Annotated[bool, BeforeValidator(_flag)]
MaybeFlag = Annotated[bool | None, BeforeValidator(_flag)]
Duration = Annotated[float, BeforeValidator(_duration)]
KVType = Annotated[Literal["f32", "f16", "q8_0", "q4_0"], BeforeValidator(_kv_name)]
Sandbox = Annotated[Literal["on", "off"], BeforeValidator(_lower)]
Priority = Annotated[Literal["background", "normal"], BeforeValidator(_lower)]
ByteSize = Annotated[int, BeforeValidator(_byte_size)]
DraftLength = Annotated[int | None, BeforeValidator(_draft_length)]


def _setting(variable: str, default: object, meaning: str, **bounds: Any) -> Any:
    """A setting as its line in the table of daemon/README.md: name, default and meaning."""
    return Field(default, validation_alias=variable, description=meaning, **bounds)


class Settings(BaseModel):
    """All settings of the daemon and of the commands; built once at the edge."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)

    address: str = _setting(
        "HOST", "127.0.0.1:11434", "address to listen on (daemon) or to reach (commands)"
    )
    port_override: int | None = _setting("PORT", None, "port instead of HOST's", ge=0, le=65535)
    models: Path = _setting("MODELS", "~/.ollama/models", "folder of the models")
    keep_alive_s: Duration = _setting(
        "KEEP_ALIVE",
        "5m",
        "how long an idle model stays loaded: a duration, or seconds; negative: for ever; 0: not",
    )
    load_timeout_s: Duration = _setting(
        "LOAD_TIMEOUT", "5m", "how long a load may go without progress; 0 or negative: for ever"
    )
    num_parallel: int = _setting(
        "NUM_PARALLEL",
        0,
        "slots of a model: requests decoded at a time; 0: 4, or fewer where memory is short",
        ge=0,
        le=64,
    )
    max_loaded_models: int = _setting("MAX_LOADED_MODELS", 0, "loaded models at a time; 0: 3", ge=0)
    memory_limit_bytes: Annotated[ByteSize, AfterValidator(_model_memory)] = _setting(
        "MEMORY_LIMIT",
        "0",
        "host memory that all models together may take: bytes, or a size such as `16GiB`; 0: nine "
        "tenths of it",
        ge=0,
    )
    max_queue: int = _setting(
        "MAX_QUEUE", 512, "requests that may wait for a load or a slot; further ones get 503", ge=1
    )
    queue_timeout_s: Duration = _setting(
        "QUEUE_TIMEOUT",
        "30m",
        "how long a request may wait for a load to begin, or for a slot, before it gets 503; 0 or "
        "negative: for ever",
    )
    context_length: int = _setting(
        "CONTEXT_LENGTH",
        0,
        "tokens of context of a request that asks for none; 0: as many as fit, up to the model's",
        ge=0,
    )
    flash_attention: MaybeFlag = _setting(
        "FLASH_ATTENTION", None, "whether flash attention is used; not set: llama.cpp chooses"
    )
    kv_cache_type: KVType | None = _setting(
        "KV_CACHE_TYPE",
        None,
        "type of the KV cache: `f32`, `f16`, `q8_0` or `q4_0`; not set: `f16`, or a smaller one "
        "where memory is short",
    )
    sched_spread: Flag = _setting(
        "SCHED_SPREAD", "false", "whether a model that fits one GPU is split over all of them too"
    )
    gpu_overhead_bytes: ByteSize = _setting(
        "GPU_OVERHEAD", 0, "bytes that stay free on each GPU, beside the margin of a plan", ge=0
    )
    speculation: DraftLength = _setting(
        "SPECULATION", "auto", "draft tokens per step: `auto` (as many as pay), `off`, or a number"
    )
    draft: Path | None = _setting(
        "DRAFT", None, "GGUF file of the drafter for models that have none of their own"
    )
    go_template: MaybeFlag = _setting(
        "GO_TEMPLATE",
        None,
        "whether a Go template goes before the Jinja template; not set: the better of the two",
    )
    priority: Priority = _setting(
        "PRIORITY", "normal", "`normal`, or `background`: other programs go before the runners"
    )
    origins: tuple[str, ...] = _setting(
        "ORIGINS", "", "further web origins that may call, separated by commas"
    )
    api_key: SecretStr | None = _setting(
        "API_KEY",
        None,
        "key that requests need, or several as `name:key`, separated by commas; commands send the "
        "first one",
    )
    api_key_file: Path | None = _setting(
        "API_KEY_FILE", None, "file with further keys, `key` or `name:key` on each line"
    )
    key_parallel: int = _setting(
        "KEY_PARALLEL",
        0,
        "requests that a key may run at a time; further ones get 429; 0: any",
        ge=0,
    )
    insecure_listen: Flag = _setting(
        "INSECURE_LISTEN", "false", "whether other machines may reach the daemon without a key"
    )
    max_connections: int = _setting(
        "MAX_CONNECTIONS", 4096, "open connections; fewer where descriptors are short", ge=1
    )
    max_client_connections: int = _setting(
        "MAX_CLIENT_CONNECTIONS", 256, "open connections of one other machine", ge=1
    )
    idle_timeout_s: Duration = _setting(
        "IDLE_TIMEOUT",
        "2m",
        "how long a connection may be silent between requests or within a body; 0 or negative: "
        "for ever",
    )
    send_timeout_s: Duration = _setting(
        "SEND_TIMEOUT",
        "1m",
        "how long a client may take nothing of its answer before that is ended; 0 or negative: for "
        "ever",
    )
    header_timeout_s: Duration = _setting(
        "HEADER_TIMEOUT",
        "20s",
        "how long the headers of a request may take; 0 or negative: for ever",
    )
    max_stored_bytes: ByteSize = _setting(
        "MAX_STORED",
        "0",
        "what the files of all models may take: bytes, or a size such as `200GB`; 0: the disk",
        ge=0,
    )
    no_prune: Flag = _setting("NOPRUNE", "false", "whether files stay that no model needs any more")
    drain_timeout_s: Duration = _setting(
        "DRAIN_TIMEOUT",
        "30s",
        "how long running requests may go on when the daemon stops; negative: for ever",
    )
    settings_file: Path | None = _setting(
        "SETTINGS_FILE", None, "file of such variables that is read again at SIGHUP"
    )
    sandbox: Sandbox = _setting(
        "SANDBOX",
        "on",
        "`on`, or `off`: runners keep all rights, to find out whether a driver of a GPU needs them",
    )
    debug: Flag = _setting("DEBUG", "false", "whether more is logged")
    log_format: LogFormat = _setting(
        "LOG_FORMAT", "text", "how the daemon writes its log: `text` or `json` (an object per line)"
    )
    cache_home: Path = _setting("XDG_CACHE_HOME", "~/.cache", "folder of measured profiles")
    warnings: tuple[str, ...] = ()
    """What the daemon logs when it starts: values that it ignores, a sentence each."""

    @classmethod
    def load(cls, **flags: object) -> Self:
        """Settings from the given flags (None means "not given") and the environment.

        A flag is named like its variable, in lower case: `num_parallel`. A bad value of a variable
        of Ollama's that Ollama tolerates is ignored, with a warning (CONTRACT 4). Raises
        ConfigError for any other.
        """
        names = [str(field.validation_alias) for field in cls.model_fields.values()]
        given = {name.upper(): value for name, value in flags.items() if value is not None}
        found = {name: value for name in names if (value := _read(name, given)) is not None}
        ignored = [
            f"{OLLAMAS}{name} has no effect: {reason}"
            for name, reason in UNUSED.items()
            if _clean(os.environ.get(OLLAMAS + name)) is not None
        ]
        while True:
            values = {name: value for name, (_, value) in found.items()}
            try:
                settings = cls.model_validate({**values, "warnings": tuple(ignored)})
                return settings._warn_of_port(found)
            except ValidationError as error:
                name, why = _explain(error)
                source, bad = found.get(name, ("the default", ""))
                if not source.startswith(OLLAMAS) or name in NOT_TOLERATED:
                    shown = "..." if name in SECRET else repr(bad)
                    raise ConfigError(f"{_told(name, source)}={shown}: {why}") from None
                ignored.append(f"{source}={bad!r} is ignored, the default is used: {why}")
                del found[name]

    def _warn_of_port(self, found: Mapping[str, tuple[str, object]]) -> Self:
        """With a warning if the port that HOST names is not used, as in Ollama (CONTRACT 4)."""
        address = Address.parse(self.address)
        if not address.has_bad_port or self.port_override is not None:
            return self
        source, text = found["HOST"]
        told = f"the port of {_told('HOST', source)}={text!r} is ignored, {address.port} is used"
        return self.model_copy(update={"warnings": (*self.warnings, told)})

    @field_validator("address")
    @classmethod
    def _check_address(cls, text: str) -> str:
        Address.parse(text)
        return text

    @field_validator("api_key")
    @classmethod
    def _check_keys(cls, text: SecretStr | None) -> SecretStr | None:
        if text is not None:
            parse_keys(text.get_secret_value())
        return text

    @field_validator("models", "cache_home")
    @classmethod
    def _expand(cls, path: Path) -> Path:
        try:
            return path.expanduser().absolute()
        except RuntimeError:
            raise ValueError("there is no such home directory; write the path out") from None

    @field_validator(
        "load_timeout_s", "idle_timeout_s", "header_timeout_s", "send_timeout_s", "queue_timeout_s"
    )
    @classmethod
    def _stall(cls, seconds: float) -> float:
        return seconds or float("inf")

    @field_validator("kv_cache_type")
    @classmethod
    def _check_kv_type(cls, name: str | None, info: ValidationInfo) -> str | None:
        """llama.cpp quantises the cache of values only with flash attention (GUIDE 1.4)."""
        if name is None:
            return None
        if info.data.get("flash_attention") is False and name.startswith("q"):
            raise ValueError(f"{name} needs flash attention, which FLASH_ATTENTION turns off")
        return name

    @field_validator("draft")
    @classmethod
    def _find(cls, path: Path | None) -> Path | None:
        if path is None:
            return None
        path = cls._expand(path)
        if not path.is_file():
            raise ValueError(f"there is no file {path}; name a drafter's GGUF file")
        return path

    @field_validator("origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        for origin in value if isinstance(value, tuple) else ():
            if origin != "*" and "://" not in origin:
                raise ValueError(f"origin {origin!r} needs a scheme, such as https://{origin}")
            if origin != "*":
                OriginPattern.parse(origin)
        return value

    def read_keys(self) -> KeyRing:
        """The keys that requests need. Raises ConfigError for a file that cannot be used."""
        text = self.api_key.get_secret_value() if self.api_key else ""
        keys = parse_keys(text) if text else ()
        if self.api_key_file:
            keys += read_key_file(self.api_key_file.expanduser())
        if len({key.name for key in keys}) < len(keys):
            raise ConfigError("a name of a key in API_KEY_FILE is one of API_KEY, too; rename one")
        return KeyRing(keys)

    @property
    def client_key(self) -> str:
        """The key that the commands send; empty: none."""
        text = self.api_key.get_secret_value() if self.api_key else ""
        return parse_keys(text)[0].secret if text else ""

    def check_exposure(self, hosts: Iterable[str]) -> None:
        """Raises ConfigError if the daemon may not listen on one of these addresses without a key.

        A host is empty for every interface; the path of a socket belongs to this machine.
        """
        has_keys = len(self.read_keys()) > 0
        check_exposure(hosts, has_keys=has_keys, is_insecure=self.insecure_listen)

    @property
    def host(self) -> str:
        """The address to bind; empty means every interface."""
        return Address.parse(self.address).host

    @property
    def port(self) -> int:
        """The TCP port to bind or to reach."""
        return (
            Address.parse(self.address).port if self.port_override is None else self.port_override
        )

    @property
    def base_url(self) -> str:
        """The URL under which a client reaches the daemon."""
        address = Address.parse(self.address)
        host = "127.0.0.1" if address.host in ("", "0.0.0.0", "::") else address.host
        host = f"[{host}]" if ":" in host else host
        return f"{address.scheme}://{host}:{self.port}{address.path}"

    @property
    def listening_url(self) -> str:
        """The URL of a daemon with these settings: plain HTTP, and no path."""
        return self.model_copy(update={"address": f"http://{self._bracketed_host}"}).base_url

    @property
    def _bracketed_host(self) -> str:
        host = Address.parse(self.address).host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def listening_warnings(self) -> tuple[str, ...]:
        """What the log of a daemon tells about the address that it listens on, a sentence each."""
        address = Address.parse(self.address)
        sentences = []
        if address.scheme == "https":
            sentences.append(NO_TLS.format(self.listening_url))
        if not self.is_loopback and self.insecure_listen and not len(self.read_keys()):
            sentences.append(OPEN_TO_ALL.format(self.listening_url))
        return tuple(sentences)

    @property
    def is_loopback(self) -> bool:
        """Whether the daemon is reachable from this machine only (CONTRACT 4, Host check)."""
        return is_loopback(self.host)


def _read(name: str, flags: Mapping[str, object]) -> tuple[str, object] | None:
    """Where the value of a setting stands, and the value; None: nowhere, or it is empty."""
    prefixes = () if name in ONLY_FLAGS else ("",) if name in WITHOUT_PREFIX else (OURS, OLLAMAS)
    prefixes = (OURS,) if name in ONLY_OURS else prefixes
    sources = [("the command line", flags.get(name))]
    sources += [(prefix + name, os.environ.get(prefix + name)) for prefix in prefixes]
    cleaned = ((source, _clean(value)) for source, value in sources)
    return next(((source, value) for source, value in cleaned if value is not None), None)


def _told(name: str, source: str) -> str:
    """What a message calls a setting: its variable, or its bare name if it was a flag."""
    return source if source.endswith(f"_{name}") else name


def _clean(value: object) -> object:
    """Without blanks and surrounding quotes; what is empty then counts as not set."""
    if not isinstance(value, str):
        return value
    return value.strip().strip("\"'").strip() or None


def _explain(error: ValidationError) -> tuple[str, str]:
    """The setting, and what is wrong with its value."""
    first = error.errors(include_url=False)[0]
    return str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
