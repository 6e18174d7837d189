"""What `outrider create` reads, sends and refuses, against a scripted daemon."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from outrider.daemon.cli import entry
from outrider.daemon.cli.client import Client
from outrider.daemon.cli.create_plan import ModelfileError, plan_create
from outrider.daemon.cli.upload import Upload
from outrider.daemon.errors import OutriderError
from scripted import Lines, Reply, Scripted

pytestmark = pytest.mark.unit

GGUF = b"GGUF and more"
OTHER = b"GGUF of a drafter"
DONE = Lines([{"status": "writing manifest"}, {"status": "success"}])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is run: a folder with two files."""
    (tmp_path / "m.gguf").write_bytes(GGUF)
    (tmp_path / "d.gguf").write_bytes(OTHER)
    (tmp_path / "sub").mkdir()
    (tmp_path / "tensors").mkdir()
    (tmp_path / "tensors" / "adapter_model.safetensors").write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, *lines: str) -> Path:
    path = folder / "Modelfile"
    path.write_text("\n".join(lines))
    return path


def blob(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_what_is_stated_is_asked_for(folder: Path) -> None:
    write(
        folder,
        "FROM smollm2:135m",
        "PARAMETER draft_num_predict 8",
        "SYSTEM be kind",
        "MESSAGE user hi",
        "LICENSE a",
        "LICENSE b",
        "RENDERER r",
        "REQUIRES v0.14.0",
    )
    asked = plan_create("made", None)
    assert asked.files == ()
    assert asked.body == {
        "model": "made",
        "from": "smollm2:135m",
        "parameters": {"draft_num_predict": 8},
        "system": "be kind",
        "messages": [{"role": "user", "content": "hi"}],
        "license": ["a", "b"],
        "renderer": "r",
        "requires": "0.14.0",
    }


@pytest.mark.parametrize("path", ["m.gguf", "./m.gguf", "sub/../m.gguf", "{folder}/m.gguf"])
def test_a_path_that_exists_is_a_file(folder: Path, path: str) -> None:
    write(folder, f"FROM {path.format(folder=folder)}")
    (file,) = plan_create("made", None).files
    assert file[0] == "files"
    assert file[1].samefile(folder / "m.gguf")


def test_paths_are_relative_to_the_modelfile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modelfile = write(folder, "FROM m.gguf", "DRAFT ./d.gguf", "ADAPTER d.gguf")
    monkeypatch.chdir(folder / "sub")
    assert [field for field, _ in plan_create("made", modelfile).files] == [
        *("files", "draft_files", "adapters")
    ]


def test_a_folder_stands_for_its_files(folder: Path) -> None:
    (folder / "d.gguf").rename(folder / "sub" / "d.gguf")
    assert [path.name for _, path in plan_create("made", None).files] == ["m.gguf"], "no Modelfile"
    write(folder, "FROM .", "DRAFT sub")
    assert [(f, p.name) for f, p in plan_create("made", None).files] == [
        *(("files", "m.gguf"), ("draft_files", "d.gguf"))
    ]


def test_a_folder_of_safetensors_is_taken_whole(folder: Path) -> None:
    sub = folder / "sub"
    for name in ("model-1.safetensors", "config.json", "tokenizer.model", "README.md", "code.py"):
        (sub / name).write_text("x")
    write(folder, "FROM ./sub")
    names = {path.name for _, path in plan_create("made", None).files}
    assert names == {"model-1.safetensors", "config.json", "tokenizer.model"}
    (sub / "model-1.safetensors").rename(sub / "pytorch_model.bin")
    with pytest.raises(ModelfileError, match="holds neither GGUF nor safetensors files: convert"):
        plan_create("made", None)


def test_a_part_stands_for_all_parts(folder: Path) -> None:
    parts = [folder / f"big-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    for part in parts[:2]:
        part.write_bytes(GGUF)
    write(folder, f"FROM ./{parts[1].name}")
    with pytest.raises(ModelfileError, match=r"of 3 parts, and big-00003-of-00003\.gguf is not"):
        plan_create("made", None)
    parts[2].write_bytes(GGUF)
    assert [path.name for _, path in plan_create("made", None).files] == [p.name for p in parts]
    write(folder, *(f"FROM ./{part.name}" for part in parts))
    assert len(plan_create("made", None).files) == 3


def test_a_drafter_may_be_a_model(folder: Path) -> None:
    write(folder, "FROM m.gguf", "DRAFT smollm2:135m")
    body = plan_create("made", None, quantize="q8_0", draft_quantize="").body
    assert body == {"model": "made", "draft": "smollm2:135m", "quantize": "q8_0"}


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["FROM ./no.gguf"], "FROM ./no.gguf: there is no such file"),
        (["FROM no.gguf"], "FROM no.gguf: there is no such file"),
        (["FROM m.gguf", "DRAFT ./smollm2"], "DRAFT ./smollm2: there is no such file"),
        (["FROM m.gguf", "ADAPTER smollm2"], "ADAPTER smollm2: there is no such file"),
        (["FROM m.gguf", "ADAPTER tensors"], "convert the adapter first"),
        (["FROM m.gguf", "DRAFT ./m.gguf"], "DRAFT must not reference the same local path as FROM"),
        (["FROM Modelfile"], "Modelfile is not in GGUF format: convert the model first"),
        (["FROM ./sub"], "no Modelfile or safetensors files found"),
        (["SYSTEM x"], "no FROM line"),
        (["FROM " + "x" * 5000], "cannot be read: File name too long"),
    ],
)
def test_mistakes(folder: Path, lines: list[str], error: str) -> None:
    write(folder, *lines)
    with pytest.raises(ModelfileError) as caught:
        plan_create("made", None)
    assert error in str(caught.value)


def test_files_of_one_name(folder: Path) -> None:
    (folder / "sub" / "m.gguf").write_bytes(GGUF)
    write(folder, "FROM m.gguf", "FROM sub/m.gguf")
    with pytest.raises(ModelfileError, match="have the same name; rename one of them"):
        plan_create("made", None)


async def outrider(daemon: Scripted, *args: str) -> int:
    return await asyncio.to_thread(entry.exit_code, ["--host", daemon.url, "create", *args])


async def test_only_what_is_missing_is_uploaded(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "FROM m.gguf", "DRAFT d.gguf")
    script = {
        f"HEAD /api/blobs/{blob(OTHER)}": Reply(),
        f"POST /api/blobs/{blob(GGUF)}": Reply(status=201),
        "POST /api/create": DONE,
    }
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "made") == 0
    body = {
        "model": "made",
        "files": {"m.gguf": blob(GGUF)},
        "draft_files": {"d.gguf": blob(OTHER)},
    }
    assert daemon.bodies("POST /api/create") == [body]
    assert daemon.uploads == {f"POST /api/blobs/{blob(GGUF)}": GGUF}
    assert capsys.readouterr().err.splitlines() == [
        "hashing m.gguf",
        "uploading m.gguf",
        "hashing d.gguf",
        "writing manifest",
        "success",
    ]


async def test_what_the_daemon_refuses_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "FROM m.gguf")
    refusal = Reply({"error": "the disk is full"}, 500)
    async with Scripted({f"POST /api/blobs/{blob(GGUF)}": refusal}) as daemon:
        assert await outrider(daemon, "made") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "Error: the disk is full"
    assert not daemon.bodies("POST /api/create")


async def test_mistakes_need_no_daemon(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Scripted({}) as daemon:
        assert await outrider(daemon, "made", "-f", "nofile") == 1
        assert "specified Modelfile wasn't found: nofile" in capsys.readouterr().err
        write(folder, "FROM m.gguf", "PARAMETER top_q 1")
        assert await outrider(daemon, "made") == 1
        assert capsys.readouterr().err == "Error: unknown parameter 'top_q'\n"
    assert not daemon.seen


async def test_a_file_that_shrinks_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Scripted({}) as daemon, Client(daemon.url) as client:
        upload = Upload(client, folder / "m.gguf")
        steps = upload.steps()
        assert (await anext(steps))["status"] == "hashing m.gguf"
        (folder / "m.gguf").write_bytes(GGUF[:4])
        with pytest.raises(OutriderError):
            async for _ in steps:
                pass
    assert not daemon.uploads
