"""Settings: who wins, what each variable accepts, and what a bad value is told."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from outrider.daemon.config import UNUSED, Settings
from outrider.daemon.errors import ConfigError

pytestmark = pytest.mark.unit

# setting, its default, and three values as texts with what they mean
TABLE: list[tuple[str, str, object, list[tuple[str, object]]]] = [
    ("host", "host", "127.0.0.1", [("1.1.1.1", "1.1.1.1"), ("2.2.2.2", "2.2.2.2"), ("::1", "::1")]),
    (
        "models",
        "models",
        Path.home() / ".ollama/models",
        [("/a", Path("/a")), ("/b", Path("/b")), ("~/c", Path.home() / "c")],
    ),
    ("keep_alive", "keep_alive_s", 300.0, [("1m", 60.0), ("2m", 120.0), ("3", 3.0)]),
    ("load_timeout", "load_timeout_s", 300.0, [("1m", 60.0), ("2m", 120.0), ("3", 3.0)]),
    ("num_parallel", "num_parallel", 0, [("1", 1), ("2", 2), ("3", 3)]),
    ("max_queue", "max_queue", 512, [("1", 1), ("2", 2), ("3", 3)]),
    ("flash_attention", "flash_attention", None, [("1", True), ("0", False), ("false", False)]),
    ("noprune", "no_prune", False, [("1", True), ("true", True), ("yes", True)]),
    ("context_length", "context_length", 0, [("1000", 1000), ("2000", 2000), ("3000", 3000)]),
    ("max_loaded_models", "max_loaded_models", 0, [("1", 1), ("2", 2), ("3", 3)]),
    ("kv_cache_type", "kv_cache_type", None, [("f32", "f32"), ("q8_0", "q8_0"), ("q4_0", "q4_0")]),
    ("speculation", "speculation", None, [("auto", None), ("off", 0), ("4", 4)]),
    (
        "origins",
        "origins",
        (),
        [
            ("https://a.example", ("https://a.example",)),
            (
                "https://b.example, https://*.c.example",
                ("https://b.example", "https://*.c.example"),
            ),
            ("*", ("*",)),
        ],
    ),
    ("debug", "debug", False, [("1", True), ("true", True), ("yes", True)]),
]
CASES = pytest.mark.parametrize(("setting", "attribute", "default", "values"), TABLE)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(("OUTRIDER_", "OLLAMA_")):
            monkeypatch.delenv(name)


def host_of(monkeypatch: pytest.MonkeyPatch, text: str) -> Settings:
    monkeypatch.setenv("OLLAMA_HOST", text)
    return Settings.load()


def test_the_drafter_must_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Settings.load().draft is None
    gguf = tmp_path / "mtp.gguf"
    gguf.touch()
    monkeypatch.setenv("OUTRIDER_DRAFT", str(gguf))
    assert Settings.load().draft == gguf
    with pytest.raises(ConfigError, match=r"there is no file .*gone\.gguf"):
        Settings.load(draft=str(tmp_path / "gone.gguf"))


@CASES
def test_flags_win_over_our_variables_over_ollamas_over_defaults(
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    attribute: str,
    default: object,
    values: list[tuple[str, object]],
) -> None:
    (flag, by_flag), (ours, by_ours), (ollamas, by_ollamas) = values
    flags: dict[str, Any] = {setting: flag}
    assert getattr(Settings.load(), attribute) == default
    monkeypatch.setenv(f"OLLAMA_{setting.upper()}", ollamas)
    assert getattr(Settings.load(), attribute) == by_ollamas
    monkeypatch.setenv(f"OUTRIDER_{setting.upper()}", ours)
    assert getattr(Settings.load(), attribute) == by_ours
    assert getattr(Settings.load(**flags), attribute) == by_flag
    assert getattr(Settings.load(**{setting: None}), attribute) == by_ours
    monkeypatch.delenv(f"OLLAMA_{setting.upper()}")
    assert getattr(Settings.load(**flags), attribute) == by_flag


@CASES
def test_variables_without_our_prefix_are_none_of_our_business(
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    attribute: str,
    default: object,
    values: list[tuple[str, object]],
) -> None:
    for name in (setting, setting.upper(), attribute.upper(), "ADDRESS", "PORT", "PORT_OVERRIDE"):
        monkeypatch.setenv(name, "1")
    settings = Settings.load()
    assert getattr(settings, attribute) == default
    assert settings.port == 11434


@CASES
def test_blanks_and_quotes_around_a_value_are_trimmed(
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    attribute: str,
    default: object,
    values: list[tuple[str, object]],
) -> None:
    text, meaning = values[0]
    for wrapped in (f"  {text} ", f'"{text}"', f" '{text}'\t"):
        monkeypatch.setenv(f"OUTRIDER_{setting.upper()}", wrapped)
        assert getattr(Settings.load(), attribute) == meaning, wrapped
    for empty in ("", "  ", '""', "''"):
        monkeypatch.setenv(f"OUTRIDER_{setting.upper()}", empty)
        assert getattr(Settings.load(), attribute) == default, repr(empty)


def test_an_empty_variable_of_ours_leaves_ollamas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_NUM_PARALLEL", "")
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "7")
    assert Settings.load().num_parallel == 7


@pytest.mark.parametrize(
    ("text", "host", "port", "url"),
    [
        ("1.2.3.4", "1.2.3.4", 11434, "http://1.2.3.4:11434"),
        ("1.2.3.4:1234", "1.2.3.4", 1234, "http://1.2.3.4:1234"),
        ("1.2.3.4:", "1.2.3.4", 11434, "http://1.2.3.4:11434"),
        ("1.2.3.4:99999", "1.2.3.4", 11434, "http://1.2.3.4:11434"),
        ("1.2.3.4:-1", "1.2.3.4", 11434, "http://1.2.3.4:11434"),
        ("1.2.3.4:nine", "1.2.3.4", 11434, "http://1.2.3.4:11434"),
        (":1234", "", 1234, "http://127.0.0.1:1234"),
        ("0.0.0.0", "0.0.0.0", 11434, "http://127.0.0.1:11434"),
        ("0.0.0.0:80", "0.0.0.0", 80, "http://127.0.0.1:80"),
        ("[::1]:1337", "::1", 1337, "http://[::1]:1337"),
        ("[::1]", "::1", 11434, "http://[::1]:11434"),
        ("::1", "::1", 11434, "http://[::1]:11434"),
        ("::", "::", 11434, "http://127.0.0.1:11434"),
        ("[::]:1337", "::", 1337, "http://127.0.0.1:1337"),
        ("http://x", "x", 80, "http://x:80"),
        ("https://x", "x", 443, "https://x:443"),
        ("http://x:1234", "x", 1234, "http://x:1234"),
        ("http://x/path", "x", 80, "http://x:80/path"),
        ("http://x:99/path/", "x", 99, "http://x:99/path"),
        ("https://[::1]:8/p", "::1", 8, "https://[::1]:8/p"),
        ("x/path", "x", 11434, "http://x:11434/path"),
        ("x", "x", 11434, "http://x:11434"),
        ("ollama.com", "ollama.com", 443, "https://ollama.com:443"),
        ("localhost", "localhost", 11434, "http://localhost:11434"),
        ("", "127.0.0.1", 11434, "http://127.0.0.1:11434"),
        ('"1.2.3.4:1"', "1.2.3.4", 1, "http://1.2.3.4:1"),
    ],
)
def test_every_form_of_the_host(
    monkeypatch: pytest.MonkeyPatch, text: str, host: str, port: int, url: str
) -> None:
    settings = host_of(monkeypatch, text)
    assert (settings.host, settings.port, settings.base_url) == (host, port, url)


def test_the_port_flag_replaces_only_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://1.2.3.4:5/p")
    assert Settings.load(port=6).base_url == "http://1.2.3.4:6/p"
    assert Settings.load(port=0).port == 0


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("", True),
        ("127.0.0.1", True),
        ("127.9.9.9:80", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST:99", True),
        (":11434", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("example.com", False),
    ],
)
def test_what_counts_as_loopback(
    monkeypatch: pytest.MonkeyPatch, text: str, loopback: bool
) -> None:
    assert host_of(monkeypatch, text).is_loopback is loopback


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("90", 90),
        ("0", 0),
        ("0s", 0),
        ("-1", math.inf),
        ("-1m", math.inf),
        ('"10m"', 600),
    ],
)
def test_keep_alive_is_a_duration_or_seconds(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("OLLAMA_KEEP_ALIVE", text)
    assert Settings.load().keep_alive_s == seconds


@pytest.mark.parametrize(
    ("text", "debug"),
    [("0", False), ("f", False), ("FALSE", False), ("1", True), ("T", True), ("2", True)],
)
def test_a_flag_is_true_unless_it_says_no(
    monkeypatch: pytest.MonkeyPatch, text: str, debug: bool
) -> None:
    monkeypatch.setenv("OLLAMA_DEBUG", text)
    assert Settings.load().debug is debug


@pytest.mark.parametrize(("text", "set_to"), [("", None), ("0", False), ("1", True)])
def test_a_flag_may_be_unset(
    monkeypatch: pytest.MonkeyPatch, text: str, set_to: bool | None
) -> None:
    monkeypatch.setenv("OLLAMA_GO_TEMPLATE", text)
    assert Settings.load().go_template is set_to
    assert Settings.load(go_template="false").go_template is False


def test_a_relative_store_is_made_absolute() -> None:
    assert Settings.load(models=Path("m")).models == Path.cwd() / "m"


@pytest.mark.parametrize(
    ("setting", "text", "why"),
    [
        ("HOST", "two words", "not an address"),
        ("HOST", "[::1", "not an address"),
        ("HOST", "a:b:c", "not an address"),
        ("MODELS", "~nobody-of-this-name/m", "home directory"),
        ("KEEP_ALIVE", "soon", "invalid duration"),
        ("KEEP_ALIVE", "5 minutes", "invalid duration"),
        ("NUM_PARALLEL", "two", "integer"),
        ("NUM_PARALLEL", "-1", "greater than or equal to 0"),
        ("NUM_PARALLEL", "65", "less than or equal to 64"),
        ("NUM_PARALLEL", "1.5", "integer"),
        ("CONTEXT_LENGTH", "-1", "greater than or equal to 0"),
        ("CONTEXT_LENGTH", "4k", "integer"),
        ("MAX_LOADED_MODELS", "-1", "greater than or equal to 0"),
        ("MAX_QUEUE", "0", "greater than or equal to 1"),
        ("LOAD_TIMEOUT", "soon", "invalid duration"),
        ("KV_CACHE_TYPE", "q3_k", "'f16', 'q8_0' or 'q4_0'"),
        ("ORIGINS", "example.com", "needs a scheme"),
        ("ORIGINS", "https://a.example,b.example", "needs a scheme"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, setting: str, text: str, why: str
) -> None:
    monkeypatch.setenv(f"OUTRIDER_{setting}", text)
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    message = str(caught.value)
    assert message.startswith(f"OUTRIDER_{setting}={text!r}: ")
    assert why in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("setting", "text"),
    [("HOST", "two words"), ("MODELS", "~nobody-of-this-name/m"), ("ORIGINS", "example.com")],
)
def test_what_ollama_refuses_is_refused(
    monkeypatch: pytest.MonkeyPatch, setting: str, text: str
) -> None:
    monkeypatch.setenv(f"OLLAMA_{setting}", text)
    with pytest.raises(ConfigError, match=f"^OLLAMA_{setting}="):
        Settings.load()


@pytest.mark.parametrize(
    ("setting", "attribute", "text"),
    [
        ("NUM_PARALLEL", "num_parallel", "many"),
        ("NUM_PARALLEL", "num_parallel", "-1"),
        ("NUM_PARALLEL", "num_parallel", "65"),
        ("MAX_LOADED_MODELS", "max_loaded_models", "-2"),
        ("MAX_QUEUE", "max_queue", "0"),
        ("CONTEXT_LENGTH", "context_length", "4k"),
        ("KEEP_ALIVE", "keep_alive_s", "5 minutes"),
        ("LOAD_TIMEOUT", "load_timeout_s", "soon"),
        ("KV_CACHE_TYPE", "kv_cache_type", "q5_1"),
    ],
)
def test_what_ollama_tolerates_is_a_warning_and_the_default(
    monkeypatch: pytest.MonkeyPatch, setting: str, attribute: str, text: str
) -> None:
    default = getattr(Settings.load(), attribute)
    monkeypatch.setenv(f"OLLAMA_{setting}", text)
    monkeypatch.setenv("OLLAMA_DEBUG", "1")
    settings = Settings.load()
    assert getattr(settings, attribute) == default
    assert settings.debug, "the others still count"
    (warning,) = settings.warnings
    assert warning.startswith(f"OLLAMA_{setting}={text!r} is ignored, the default is used: ")


def test_every_bad_value_has_its_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUM_PARALLEL", "MAX_QUEUE", "KV_CACHE_TYPE"):
        monkeypatch.setenv(f"OLLAMA_{name}", "x")
    assert len(Settings.load().warnings) == 3
    assert Settings.load(num_parallel=2).num_parallel == 2


@pytest.mark.parametrize("name", sorted(UNUSED))
def test_a_variable_without_effect_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert Settings.load().warnings == ()
    monkeypatch.setenv(f"OLLAMA_{name}", "1")
    (warning,) = Settings.load().warnings
    assert warning.startswith(f"OLLAMA_{name} has no effect: ")


@pytest.mark.parametrize(
    ("text", "kv_type"), [("fp16", "f16"), ("F16", "f16"), ("FP32", "f32"), ("Q8_0", "q8_0")]
)
def test_other_spellings_of_cache_types(
    monkeypatch: pytest.MonkeyPatch, text: str, kv_type: str
) -> None:
    monkeypatch.setenv("OUTRIDER_KV_CACHE_TYPE", text)
    assert Settings.load().kv_cache_type == kv_type


def test_a_quantised_cache_needs_flash_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^KV_CACHE_TYPE='q8_0': q8_0 needs flash attention"):
        Settings.load(kv_cache_type="q8_0", flash_attention="0")
    monkeypatch.setenv("OLLAMA_FLASH_ATTENTION", "0")
    monkeypatch.setenv("OLLAMA_KV_CACHE_TYPE", "q8_0")
    assert Settings.load().kv_cache_type is None
    assert "flash attention" in Settings.load().warnings[0]


@pytest.mark.parametrize("text", ["0", "-1", "0s", "-5m"])
def test_a_load_may_take_for_ever(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OLLAMA_LOAD_TIMEOUT", text)
    assert Settings.load().load_timeout_s == math.inf


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_bad_port_flag_names_the_port(port: int) -> None:
    with pytest.raises(ConfigError, match=f"^PORT={port}: .*65535|^PORT={port}: .*0$"):
        Settings.load(port=port)


def test_a_bad_flag_names_its_setting() -> None:
    with pytest.raises(ConfigError, match=r"^NUM_PARALLEL=65: "):
        Settings.load(num_parallel=65)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().num_parallel = 9


@pytest.mark.parametrize(("prefix", "port"), [("OLLAMA_", "99999"), ("OUTRIDER_", "abc")])
def test_a_bad_port_of_the_host_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, prefix: str, port: str
) -> None:
    monkeypatch.setenv(f"{prefix}HOST", f"127.0.0.1:{port}")
    settings = Settings.load()
    assert settings.port == 11434
    words = f"the port of {prefix}HOST='127.0.0.1:{port}' is ignored, 11434 is used"
    assert settings.warnings == (words,)


def test_the_cloud_s_key_does_not_lock_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "cloud-key-1234")
    settings = Settings.load()
    assert len(settings.read_keys()) == 0
    assert settings.client_key == ""


def test_keys_of_the_variable_and_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUTRIDER_API_KEY", "phone:secret-1, laptop:secret-2")
    file = tmp_path / "keys"
    file.write_text("tv:secret-3\n")
    file.chmod(0o600)
    settings = Settings.load(api_key_file=str(file))
    assert settings.client_key == "secret-1"
    keys = settings.read_keys()
    assert [keys.find(f"secret-{i}") for i in range(4)] == [None, "phone", "laptop", "tv"]
    assert "secret" not in repr(settings)
    file.write_text("phone:secret-3\n")
    with pytest.raises(ConfigError, match="rename one"):
        settings.read_keys()


def test_no_message_tells_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_API_KEY", "phone:private, ok:secret-12345")
    with pytest.raises(ConfigError, match=r"^OUTRIDER_API_KEY=\.\.\.: entry 1 is no API") as caught:
        Settings.load()
    assert "private" not in str(caught.value)
    assert "secret-12345" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "flags", "starts"),
    [
        ("127.0.0.1", {}, True),
        ("[::1]:1", {}, True),
        ("localhost", {}, True),
        ("0.0.0.0", {}, False),
        ("::", {}, False),
        (":11434", {}, False),
        ("192.168.1.2", {}, False),
        ("box.lan", {}, False),
        ("0.0.0.0", {"insecure_listen": True}, True),
        ("0.0.0.0", {"api_key": "secret-12345"}, True),
    ],
)
def test_what_other_machines_reach_needs_a_key(
    host: str, flags: dict[str, object], starts: bool
) -> None:
    settings = Settings.load(host=host, **flags)
    if starts:
        settings.check_exposure([settings.host])
        return
    with pytest.raises(ConfigError, match=r"OUTRIDER_API_KEY .*--insecure-listen"):
        settings.check_exposure([settings.host])


def test_a_socket_s_path_needs_no_key() -> None:
    Settings.load().check_exposure(["/run/outrider.sock", "::1"])
    with pytest.raises(ConfigError, match=r"^10\.0\.0\.1 is reached from other machines"):
        Settings.load().check_exposure(["127.0.0.1", "10.0.0.1"])


@pytest.mark.parametrize(
    ("host", "url", "told"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434", ""),
        ("https://127.0.0.1", "http://127.0.0.1:443", "does not speak"),
        ("https://box.lan:8443/x", "http://box.lan:8443", "does not speak"),
        ("http://127.0.0.1:80/path", "http://127.0.0.1:80", ""),
        ("[::1]:5", "http://[::1]:5", ""),
        (":5", "http://127.0.0.1:5", "without an API key"),
        ("0.0.0.0:5", "http://127.0.0.1:5", "without an API key"),
    ],
)
def test_the_daemon_tells_the_url_that_it_serves(host: str, url: str, told: str) -> None:
    is_open = told.startswith("without")
    settings = Settings.load(host=host, insecure_listen=is_open or None)
    assert settings.listening_url == url
    assert [told in sentence for sentence in settings.listening_warnings] == (
        [True] if told else []
    )


def test_a_memory_limit_without_its_unit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_MEMORY_LIMIT", "16")
    with pytest.raises(ConfigError, match=r"OUTRIDER_MEMORY_LIMIT.*16 bytes hold no model"):
        Settings.load()
    for text, size in {"0": 0, "16GiB": 16 << 30, "1048576": 1 << 20}.items():
        monkeypatch.setenv("OUTRIDER_MEMORY_LIMIT", text)
        assert Settings.load().memory_limit_bytes == size
