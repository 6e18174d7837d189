"""CONTRACT 7, fact by fact: the Modelfile, and how a model is created from it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from front import LLAMA, Front, fill_store, start_front
from ollama_folder import put_model
from outrider.daemon.cli.client import Client
from outrider.daemon.cli.create_plan import ModelfileError, plan_create
from outrider.daemon.cli.operations import create as create_by_command
from outrider.daemon.errors import BadRequest
from outrider.models.errors import CreateFailed, InvalidModelfile
from outrider.models.modelfile import decode_modelfile, parse_modelfile
from outrider.models.modelfile_writer import render_modelfile
from outrider.models.quantized import find_type
from outrider.models.store import Store
from outrider.quant.gguf import read_header
from outrider.quant.types import find_file_type
from tiny import CHATML, named, write_gguf, write_llama
from tiny_lora import write_lora

pytestmark = pytest.mark.unit

SUCCESS = (200, {"status": "success"})
ABSENT = "sha256:" + "0" * 64
COMMANDS = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", '
    '"renderer", "parser", "parameter", "message", or "requires"'
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is run: a folder with a model and its drafter."""
    for name in ("m", "d"):
        (tmp_path / f"{name}.gguf").write_bytes(b"GGUF" + name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
async def creating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    """A front whose store is that of one test."""
    monkeypatch.delenv("OLLAMA_NOPRUNE", raising=False)
    (tmp_path / "gguf").mkdir()
    async with start_front(fill_store(tmp_path / "models", tmp_path / "gguf")) as front:
        yield front


def planned(folder: Path, *lines: str, **more: str) -> Any:
    """The body for a Modelfile of these lines, and the files by field."""
    (folder / "Modelfile").write_text("\n".join(lines))
    plan = plan_create("made", None, **more)
    return plan.body, [(field, path.name) for field, path in plan.files]


async def upload(front: Front, path: Path) -> str:
    data = await asyncio.to_thread(path.read_bytes)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (await front.send("POST", f"/api/blobs/{digest}", data))[0] in (200, 201)
    return digest


async def create(front: Front, **fields: object) -> tuple[int, Any]:
    body = {("from" if key == "from_" else key): value for key, value in fields.items()}
    return await front.post("/api/create", {"model": "made", "stream": False, **body})


async def show(front: Front, model: str = "made") -> Any:
    status, shown = await front.post("/api/show", {"model": model})
    assert status == 200, shown
    return shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SYSTEM  plain text \t", "plain text"),
        ("system lower case", "lower case"),
        ("SyStEm mixed", "mixed"),
        ("SYSTEM a # b", "a # b"),
        ('SYSTEM "a\nb"', "a\nb"),
        (r'SYSTEM "a\tb"', r"a\tb"),
        ('SYSTEM """a\n "b"\n"""', 'a\n "b"\n'),
        ("SYSTEM 'a'", "'a'"),
        ("  # a comment\n\n \nSYSTEM x", "x"),
    ],
)
def test_7_1_values(text: str, value: str) -> None:
    assert parse_modelfile(f"FROM m\n{text}\n").all("system") == (value,)


def test_7_1_parameters_and_messages() -> None:
    text = "FROM m\nPARAMETER stop a\nPARAMETER stop b\nMESSAGE user hi there\nMESSAGE system x"
    parsed = parse_modelfile(text)
    assert parsed.keyed("parameter") == (("stop", "a"), ("stop", "b"))
    assert parsed.keyed("message") == (("user", "hi there"), ("system", "x"))


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"),
     ("utf-16-be", b"\xfe\xff")],
)  # fmt: skip
def test_7_1_encodings(encoding: str, mark: bytes) -> None:
    assert decode_modelfile(mark + "FROM m\nSYSTEM ü".encode(encoding)) == "FROM m\nSYSTEM ü"


@pytest.mark.parametrize("command", ["TEMPLATE", "SYSTEM", "RENDERER", "PARSER", "REQUIRES"])
def test_7_1_the_last_one_wins(folder: Path, command: str) -> None:
    body, _ = planned(folder, "FROM m", f"{command} 1.0.0", f"{command} 2.0.0")
    assert body[command.lower()] == "2.0.0"


def test_7_1_licenses_messages_and_parameters_collect(folder: Path) -> None:
    body, _ = planned(
        folder, "FROM m", "LICENSE a", "LICENSE b", "MESSAGE user x", "MESSAGE assistant y",
        "PARAMETER stop a", "PARAMETER top_k 1", "PARAMETER stop b", "PARAMETER top_k 2",
    )  # fmt: skip
    assert body["license"] == ["a", "b"]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant"]
    assert body["parameters"] == {"stop": ["a", "b"], "top_k": 2}


def test_7_1_files_of_several_lines(folder: Path) -> None:
    _, files = planned(folder, "FROM ./m.gguf", "FROM ./d.gguf", "ADAPTER m.gguf", "ADAPTER d.gguf")
    assert files == [("files", "m.gguf"), ("files", "d.gguf"), ("adapters", "d.gguf")]
    body, files = planned(folder, "FROM one", "FROM two")
    assert (body["from"], files) == ("two", [])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SYSTEM x", "no FROM line"),
        ("FROM m\nBAKE x", f"(line 2): {COMMANDS}"),
        ("FROM m\n\nMESSAGE tool x",
         '(line 3): message role must be one of "system", "user", or "assistant"'),
        ('FROM m\nSYSTEM "x', "unexpected EOF"),
        ("FROM m\nREQUIRES new", "requires must be a valid semver (e.g. 0.14.0)"),
    ],
)  # fmt: skip
def test_7_1_errors_of_the_grammar(text: str, error: str) -> None:
    with pytest.raises(InvalidModelfile) as caught:
        parse_modelfile(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        ("x 1", "unknown parameter 'x'"),
        ("numa true", "unknown parameter 'numa'"),
        ("num_gqa 1", "unknown parameter 'num_gqa'"),
        ("top_k many", "invalid int value [many]"),
        ("top_p much", "invalid float value [much]"),
        ("use_mmap maybe", "invalid bool value [maybe]"),
    ],
)
async def test_7_1_errors_of_parameters(folder: Path, parameter: str, error: str) -> None:
    with pytest.raises(BadRequest) as caught:
        planned(folder, "FROM m", f"PARAMETER {parameter}")
    assert str(caught.value) == error


def test_7_1_other_deprecated_parameters_only_warn(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body, _ = planned(folder, "FROM m", "PARAMETER low_vram true")
    assert "parameters" not in body
    assert "low_vram is deprecated" in caplog.text


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["FROM ./m.gguf", "DRAFT ./m.gguf"],
         "DRAFT must not reference the same local path as FROM: m.gguf"),
        (["FROM ./empty"], "no Modelfile or safetensors files found"),
        (["FROM ./m.gguf", "DRAFT ./gone.gguf"], "DRAFT ./gone.gguf: there is no such file"),
    ],
)  # fmt: skip
def test_7_1_errors_of_files(folder: Path, lines: list[str], error: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ModelfileError) as caught:
        planned(folder, *lines)
    assert str(caught.value) == error


async def test_7_1_a_path_that_leads_out_of_its_folder(creating: Front) -> None:
    answer = await create(creating, files={"../m.gguf": ABSENT})
    assert answer == (400, {"error": "file path must be relative"})


@pytest.mark.parametrize(
    ("system", "line"),
    [("be kind", "SYSTEM be kind"), ("a\nb", 'SYSTEM "a\nb"'), (" a", 'SYSTEM " a"'),
     ('a\n"b"', 'SYSTEM """a\n"b""""'), ('say "a"', 'SYSTEM say "a"')],
)  # fmt: skip
def test_7_1_quotes_only_where_they_are_needed(tmp_path: Path, system: str, line: str) -> None:
    put_model(
        tmp_path, "registry.ollama.ai/library/x/latest",
        [("model", b"GGUF"), ("system", system.encode())],
    )  # fmt: skip
    text = render_modelfile(Store(tmp_path).resolve("x"))
    assert line in text
    assert parse_modelfile(text).last("system") == system


async def test_7_2_what_exists_is_hashed_and_sent_if_it_is_missing(
    creating: Front, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_llama(folder / "m.gguf", embd=32)
    (folder / "Modelfile").write_text("FROM ./m.gguf\nSYSTEM be kind\n")
    told = []
    for _ in range(2):
        async with Client(creating.url) as client:
            await create_by_command(client, plan_create("made", None))
        told.append(capsys.readouterr().err.splitlines())
    assert ["uploading m.gguf" in lines for lines in told] == [True, False]
    assert ["hashing m.gguf" in lines for lines in told] == [True, True]
    assert (await show(creating))["system"] == "be kind"


def test_7_2_a_name_is_from(folder: Path) -> None:
    assert planned(folder, "FROM smollm2:135m") == (
        {"model": "made", "from": "smollm2:135m"}, [])  # fmt: skip


def test_7_2_a_folder_of_gguf_or_safetensors(folder: Path) -> None:
    assert planned(folder, "FROM .")[1] == [("files", "d.gguf"), ("files", "m.gguf")]
    tensors = folder / "tensors"
    tensors.mkdir()
    names = {"model-1.safetensors", "config.json", "tokenizer.model", "chat_template.jinja"}
    for name in names | {"README.md"}:
        (tensors / name).write_text("x")
    assert {name for _, name in planned(folder, "FROM ./tensors")[1]} == names


def test_7_2_the_content_decides(folder: Path) -> None:
    (folder / "m.gguf").rename(folder / "model.bin")
    assert planned(folder, "FROM ./model.bin")[1] == [("files", "model.bin")]
    (folder / "d.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelfileError, match="is not in GGUF format"):
        planned(folder, "FROM ./d.gguf")


def test_7_2_no_modelfile_means_this_folder(folder: Path) -> None:
    names = [path.name for _, path in plan_create("made", None).files]
    assert names == ["d.gguf", "m.gguf"]


def test_7_3_draft_files(folder: Path) -> None:
    body, files = planned(folder, "FROM ./m.gguf", "DRAFT ./d.gguf", draft_quantize="q8_0")
    assert files == [("files", "m.gguf"), ("draft_files", "d.gguf")]
    assert body["draft_quantize"] == "q8_0"


def test_7_3_several_drafters_are_put_together(folder: Path) -> None:
    (folder / "e.gguf").write_bytes(b"GGUF e")
    _, files = planned(folder, "FROM ./m.gguf", "DRAFT ./d.gguf", "DRAFT ./e.gguf")
    assert files[1:] == [("draft_files", "d.gguf"), ("draft_files", "e.gguf")]


async def test_7_3_a_drafter_becomes_a_layer(creating: Front, tmp_path: Path) -> None:
    weights = await upload(creating, write_llama(tmp_path / "m.gguf", embd=32))
    drafter = await upload(creating, write_llama(tmp_path / "d.gguf", embd=32, layers=1))
    answer = await create(creating, files={"m": weights}, draft_files={"d": drafter})
    assert answer == SUCCESS
    assert creating.store.resolve("made").draft_path == creating.store.blobs.path(drafter)


async def test_7_3_drafters_in_safetensors_are_refused(creating: Front, tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    drafter = await upload(creating, tmp_path / "d")
    status, answer = await create(creating, from_="chat", draft_files={"d.safetensors": drafter})
    assert status == 400
    assert answer["error"].startswith("supplied file was not in GGUF format")


async def test_7_4_the_older_names_of_fields(creating: Front) -> None:
    body = {"name": "made", "from": "chat", "stream": False}
    assert await creating.post("/api/create", body) == SUCCESS
    status, answer = await creating.post("/api/create", body | {"quantization": "Q9"})
    assert (status, answer["error"].partition(" - ")[0]) == (
        500, "unsupported quantization type Q9")  # fmt: skip


def test_7_4_the_types_that_ollama_supports() -> None:
    for name in ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0"):
        assert find_file_type(name) == find_file_type(name.lower())
    with pytest.raises(CreateFailed, match="unsupported quantization type X - supported types are"):
        find_type("X")


async def test_7_4_a_base_that_is_missing_is_pulled(creating: Front) -> None:
    first, last = await creating.lines("/api/create", {"model": "made", "from": "nobody:cloud"})
    assert first == {"status": "pulling manifest"}
    assert last["error"].startswith("model 'nobody:cloud' runs in a cloud")


async def test_7_4_what_is_stated_replaces_adds_or_merges(creating: Front) -> None:
    first = {"template": "a {{ .Prompt }}", "system": "a", "license": "a", "renderer": "r",
             "parser": "p", "requires": "0.14.0", "parameters": {"top_k": 1, "seed": 1},
             "messages": [{"role": "user", "content": "a"}]}  # fmt: skip
    assert await create(creating, from_="chat", **first) == SUCCESS
    second = {"template": "b {{ .Prompt }}", "system": "b", "license": ["b", "c"],
              "parameters": {"top_k": 2},
              "messages": [{"role": "user", "content": "b"}]}  # fmt: skip
    assert await create(creating, model="second", from_="made", **second) == SUCCESS
    model = creating.store.resolve("second")
    assert (model.template, model.system) == ("b {{ .Prompt }}", "b")
    assert model.licenses == ("a", "b", "c")
    assert model.params == {"top_k": 2, "seed": 1}
    assert model.messages == ({"role": "user", "content": "b"},)
    config = model.config
    assert (config.renderer, config.parser, config.requires) == ("r", "p", "0.14.0")


async def test_7_4_info_overrides_the_config(creating: Front) -> None:
    info = {"capabilities": ["vision"], "model_family": "f", "base_name": "b",
            "quantization_level": "Q1", "parameter_size": "1B", "context_length": 5,
            "embedding_length": 6}  # fmt: skip
    assert await create(creating, from_="chat", info=info) == SUCCESS
    config = creating.store.resolve("made").config
    assert (config.capabilities, config.model_family, config.base_name) == (("vision",), "f", "b")
    assert (config.file_type, config.model_type) == ("Q1", "1B")
    assert (config.context_length, config.embedding_length) == (5, 6)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"files": {"/a": ABSENT}}, "file path must be relative"),
        ({"files": {"a": "sha256:1"}}, "invalid digest format"),
        ({"from": "chat", "draft_quantize": "q8_0"}, "--draft-quantize requires a DRAFT model"),
        ({"model": "a//b", "from": "chat"}, "invalid model name"),
        ({}, "neither 'from' or 'files' was specified"),
        ({"from": "chat", "template": "{{ .X"},
         "template error: template:1:1: unclosed action"),
        ({"from": "chat", "info": {"base_name": 1}}, 'info field "base_name" must be a string'),
        ({"from": "chat", "info": {"context_length": "1"}},
         'info field "context_length" must be a number'),
        ({"from": "chat", "info": {"context_length": -1}},
         'info field "context_length" must be a non-negative integer'),
    ],
)  # fmt: skip
async def test_7_4_errors(creating: Front, body: dict[str, object], error: str) -> None:
    for stream in (True, False):
        answer = await creating.post("/api/create", {"model": "made", **body, "stream": stream})
        assert answer == (400, {"error": error})


async def test_7_4_a_remote_host_is_refused(creating: Front) -> None:
    status, answer = await create(creating, from_="chat", remote_host="https://h")
    assert (status, "not supported" in answer["error"]) == (400, True)


async def test_7_4_a_file_of_another_format(creating: Front, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"PK\x03\x04")
    status, answer = await create(creating, files={"x": await upload(creating, tmp_path / "x")})
    assert status == 400
    assert answer["error"].startswith("supplied file was not in GGUF format")


async def test_7_4_one_adapter(creating: Front, tmp_path: Path) -> None:
    base = write_llama(tmp_path / "m.gguf", embd=32)
    weights = await upload(creating, base)
    adapter = await upload(creating, write_lora(tmp_path / "a.gguf", base))
    one = {"files": {"m": weights}, "adapters": {"a": adapter}}
    assert await create(creating, **one) == SUCCESS
    assert creating.store.resolve("made").adapter_paths == (creating.store.blobs.path(adapter),)
    two = one | {"adapters": {"a": adapter, "b": adapter}}
    error = {"error": "only one adapter is currently supported"}
    assert await create(creating, **two) == (400, error)


async def test_7_4_what_is_quantised_already(creating: Front, tmp_path: Path) -> None:
    weights = await upload(creating, write_llama(tmp_path / "m.gguf", embd=32))
    drafter = await upload(creating, write_llama(tmp_path / "d.gguf", embd=32, layers=1))
    parts = {"files": {"m": weights}, "draft_files": {"d": drafter}}
    body = {"model": "made", **parts, "quantize": "q8_0", "draft_quantize": "Q8_0"}
    statuses = [line["status"] for line in await creating.lines("/api/create", body)]
    assert list(dict.fromkeys(statuses))[:3] == [
        "parsing GGUF", "quantizing F32 model to Q8_0", "verifying conversion"]  # fmt: skip
    path = creating.store.resolve("made").model_path
    assert path
    assert read_header(path).quantisation == "Q8_0"
    error = {"error": "quantization is only supported for F16, BF16 and F32 models"}
    assert await create(creating, model="x", from_="made", quantize="Q4_K_M") == (500, error)
    error = {"error": "draft quantization requires an unquantized draft model, got Q8_0"}
    assert await create(creating, model="x", from_="made", draft_quantize="F16") == (500, error)


async def test_7_4_statuses_in_their_order(creating: Front, tmp_path: Path) -> None:
    weights = await upload(creating, write_llama(tmp_path / "m.gguf", embd=32))
    body = {"model": "made", "files": {"m": weights}, "system": "new"}
    statuses = [line["status"] for line in await creating.lines("/api/create", body)]
    system = f"sha256:{hashlib.sha256(b'new').hexdigest()}"
    assert statuses[:4] == [
        *("parsing GGUF", "validating GGUF model"),
        *(f"using existing layer {weights}", f"creating new layer {system}"),
    ]
    assert statuses[-2:] == ["writing manifest", "success"]


async def test_7_4_a_file_is_stored_as_it_is_and_renders_its_own_template(
    creating: Front, tmp_path: Path
) -> None:
    metadata = named("llama", LLAMA) | {"tokenizer.chat_template": CHATML}
    weights = await upload(creating, write_gguf(tmp_path / "m.gguf", metadata, ()))
    assert await create(creating, files={"m": weights}) == SUCCESS
    model = creating.store.resolve("made")
    assert (model.model_path, model.template) == (creating.store.blobs.path(weights), None)
    assert (await show(creating))["template"] == CHATML


async def test_7_4_from_copies_everything(creating: Front, tmp_path: Path) -> None:
    base = write_llama(tmp_path / "m.gguf", embd=32)
    projector = write_gguf(tmp_path / "p.gguf", named("clip", {"has_vision_encoder": True}), ())
    drafter = write_llama(tmp_path / "d.gguf", embd=32, layers=1)
    assert await create(
        creating,
        files={"m": await upload(creating, base), "p": await upload(creating, projector)},
        draft_files={"d": await upload(creating, drafter)},
        license="l", renderer="r", parser="p", requires="1.0.0", info={"capabilities": ["tools"]},
    ) == SUCCESS  # fmt: skip
    assert await create(creating, model="second", from_="made") == SUCCESS
    first, second = (creating.store.resolve(name) for name in ("made", "second"))
    assert second.config == first.config
    assert second.config.capabilities == ("tools",)
    assert second.draft_path == first.draft_path is not None
    assert second.projector_paths == first.projector_paths != ()
    assert (second.licenses, second.parent_model) == (("l",), "made:latest")


@pytest.mark.parametrize(
    ("architecture", "fmt", "stop"),
    [("gemma4", "gemma4", ["<turn|>"]), ("nemotron_h", "nemotron-3-nano", None),
     ("nemotron_h_moe", "nemotron-3-nano", None), ("nemotron_h_omni", "nemotron-3-nano", None),
     ("llama", "", None)],
)  # fmt: skip
async def test_7_4_defaults_of_architectures(
    creating: Front, tmp_path: Path, architecture: str, fmt: str, stop: list[str] | None
) -> None:
    weights = await upload(
        creating, write_gguf(tmp_path / "m.gguf", named(architecture, LLAMA), ())
    )
    assert await create(creating, files={"m": weights}) == SUCCESS
    model = creating.store.resolve("made")
    assert (model.config.renderer, model.config.parser) == (fmt, fmt)
    assert model.params.get("stop") == stop
    own = {"renderer": "r", "parameters": {"stop": ["x"]}}
    assert await create(creating, files={"m": weights}, **own) == SUCCESS
    model = creating.store.resolve("made")
    assert (model.config.renderer, model.params["stop"]) == ("r", ["x"])


@pytest.mark.parametrize("no_prune", [False, True])
async def test_7_4_the_layers_of_the_replaced_model(tmp_path: Path, no_prune: bool) -> None:
    store = fill_store(tmp_path / "models", tmp_path)
    async with start_front(store) as front:
        front.store._prunes = not no_prune
        for text in ("first", "second"):
            assert await create(front, from_="chat", system=text) == SUCCESS
        old = f"sha256:{hashlib.sha256(b'first').hexdigest()}"
        assert front.store.blobs.has(old) == no_prune
