"""Model info: what the store and the headers say of a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from outrider.daemon.errors import NotFound
from outrider.daemon.runners.model_info import ModelIndex
from outrider.models.name import Name
from outrider.models.store import Store
from tiny import CHATML, named, write_gguf, write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant
from weights import import_gguf

pytestmark = pytest.mark.unit

GO_TEMPLATE = (
    "{{ .Tools }}{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ .ToolCalls }}\n{{ end }}>"
)
THINKING = "{{ messages[0].content }}<think></think>"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    import_gguf(root, "plain", write_llama(folder / "plain.gguf", template=CHATML))
    bare = write_llama(folder / "bare.gguf", template=None)
    import_gguf(root, "bare", bare, template="{{ .Prompt")
    go = write_llama(folder / "go.gguf", template=CHATML)
    import_gguf(root, "go", go, template=GO_TEMPLATE)
    import_gguf(root, "broken", go, template="{{ .Prompt")
    config = {"renderer": "gemma4", "parser": "thinking", "capabilities": ["insert", "vision"]}
    import_gguf(root, "built-in", go, template=GO_TEMPLATE, config=config)
    import_gguf(root, "odd", go, config={"renderer": "nosuch"})
    import_gguf(root, "unknown", go, config={"parser": "nosuch"})
    import_gguf(root, "thinker", write_llama(folder / "thinker.gguf", template=THINKING))
    embedder = write_llama(folder / "embedder.gguf", extra={"llama.pooling_type": 1})
    import_gguf(root, "embedder", embedder)
    return root


async def test_a_broken_drafter_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = write_gemma4(tmp_path / "t.gguf")
    drafter = write_gemma4_assistant(tmp_path / "d.gguf", target)
    import_gguf(tmp_path / "models", "drafted", target)
    beside = tmp_path / "models" / "blobs" / "mtp-a.gguf"
    beside.write_text("no GGUF")
    model_index = ModelIndex(Store(tmp_path / "models"))
    for _ in range(3):
        assert (await model_index.find("drafted", "gone")).adjacent_drafter is None
    assert [record.args and record.args[0] for record in caplog.records] == [beside]
    beside.write_text("no GGUF either")
    assert (await model_index.find("drafted", "gone")).adjacent_drafter is None
    assert len(caplog.records) == 2
    drafter.rename(beside)
    assert (await model_index.find("drafted", "gone")).adjacent_drafter == beside.resolve()


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("plain", ["completion"]),
        ("thinker", ["completion", "thinking"]),
        ("go", ["completion", "tools"]),
        ("built-in", ["completion", "insert", "thinking"]),
        ("embedder", ["embedding"]),
    ],
)
async def test_what_a_client_may_ask_of_a_model(
    root: Path, name: str, capabilities: list[str]
) -> None:
    found = await ModelIndex(Store(root)).find(f" {name} ", "gone")
    assert found.capabilities == capabilities
    assert found.can(capabilities[0])
    assert not found.can("vision")


async def test_an_unknown_model_is_told_in_the_words_of_its_route(root: Path) -> None:
    with pytest.raises(NotFound, match=r"^model 'x' is not here$"):
        await ModelIndex(Store(root)).find("x", "model 'x' is not here")


async def test_a_header_is_read_once(root: Path) -> None:
    model_index = ModelIndex(Store(root))
    assert (await model_index.find("plain", "")).header is (
        await model_index.find("plain", "")
    ).header


async def test_a_model_that_cannot_be_read_is_listed_without_a_header(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    import_gguf(tmp_path / "models", "broken", broken)
    import_gguf(tmp_path / "models", "whole", write_llama(tmp_path / "whole.gguf"))
    listed = await ModelIndex(Store(tmp_path / "models")).list()
    headers = {model.name.short: info and info.header.architecture for model, info in listed}
    assert headers == {"broken:latest": None, "whole:latest": "llama"}


@pytest.mark.parametrize(
    ("changes", "config", "sentences"),
    [
        ({}, {}, []),
        ({"projector_paths": (Path("p"),)}, {}, ["the projector is not used yet"]),
        ({"adapter_paths": (Path("a"),)}, {}, []),
    ],
)
async def test_stored_layers_that_are_not_used_give_warnings(
    root: Path, changes: dict[str, object], config: dict[str, str], sentences: list[str]
) -> None:
    found = await ModelIndex(Store(root)).find("plain", "gone")
    config_ = dataclasses.replace(found.model.config, **config)
    model = dataclasses.replace(found.model, config=config_, **changes)
    warnings = dataclasses.replace(found, model=model).warnings
    assert len(warnings) == len(sentences)
    assert all(w.startswith(s) for w, s in zip(warnings, sentences, strict=True))


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("plain", ""),
        ("go", ""),
        ("broken", "TEMPLATE cannot be read, so that the chat template of the GGUF file is used: "),
        ("bare", "TEMPLATE cannot be read, so that chats are refused: template:1:1: unclosed"),
        ("odd", "RENDERER nosuch is unknown: chats are refused"),
        ("unknown", "PARSER nosuch is unknown, and not used"),
    ],
)
async def test_what_of_a_format_cannot_be_used_gives_warnings(
    root: Path, name: str, warning: str
) -> None:
    warnings = (await ModelIndex(Store(root)).find(name, "gone")).warnings
    assert len(warnings) == bool(warning)
    assert not warning or warnings[0].startswith(warning)


@pytest.mark.parametrize(
    ("name", "prefers_go", "renderer", "template", "uses_jinja"),
    [
        ("plain", None, "", CHATML, True),
        ("plain", True, "", CHATML, True),
        ("go", None, "", GO_TEMPLATE, False),
        ("go", False, "", CHATML, True),
        ("broken", True, "", CHATML, True),
        ("bare", None, "", "{{ .Prompt", False),
        ("built-in", None, "gemma4-small", "", False),
    ],
)
async def test_the_format_of_a_model(
    root: Path, name: str, prefers_go: bool | None, renderer: str, template: str, uses_jinja: bool
) -> None:
    found = await ModelIndex(Store(root), prefers_go=prefers_go).find(name, "gone")
    assert (found.chat_format.renderer, found.chat_format.template) == (renderer, template)
    assert found.uses_jinja is uses_jinja


async def test_the_choice_is_made_once_per_version_of_a_model(tmp_path: Path) -> None:
    gguf = write_llama(tmp_path / "a.gguf", template=CHATML)
    root, model_index = tmp_path / "models", ModelIndex(Store(tmp_path / "models"))
    import_gguf(root, "a", gguf, template=GO_TEMPLATE)
    first = (await model_index.find("a", "")).chat
    assert (await model_index.find("a", "")).chat is first
    import_gguf(root, "a", gguf, template="{{ .Prompt }}")
    assert (await model_index.find("a", "")).chat_format.template == "{{ .Prompt }}"


async def test_warnings_are_logged_once_per_model(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = ModelIndex(Store(root))
    found = await index.find("broken", "gone")
    for _ in range(3):
        index.log_warnings(found)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["broken"]


async def test_what_is_known_of_models_that_are_gone_is_forgotten(tmp_path: Path) -> None:
    root = tmp_path / "models"
    for number in range(6):
        metadata = named("llama", {"block_count": number}) | {"tokenizer.chat_template": CHATML}
        import_gguf(root, f"m{number}", write_gguf(tmp_path / f"{number}.gguf", metadata, ()))
    index = ModelIndex(Store(root))
    assert len(await index.list()) == 6
    for number in range(5):
        index.store.delete(Name.parse(f"m{number}"))
    assert len(await index.list()) == 1
    assert (len(index._headers), len(index._choices)) == (1, 1)
