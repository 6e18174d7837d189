"""Which /api/create request, and which files, does a local Modelfile need (CONTRACT 7.2)?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...models.errors import InvalidModelfile, InvalidName
from ...models.modelfile import Modelfile, decode_modelfile, parse_modelfile
from ...models.name import Name
from ...models.part_name import part_names
from ..errors import OutriderError
from ..parameters import read_parameters
from .client import Json

MAGIC = b"GGUF"  # not imported from `quant`, which would slow down every command's start
WEIGHTS = "*.[gG][gG][uU][fF]"
SAFETENSORS = "*.safetensors"
# What else of a folder with safetensors is needed to convert it (CONTRACT 7.2).
BESIDE = ("*.json", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt")
UNUSABLE = ("pytorch*.bin", "consolidated*.pth")
CONVERT = "convert the model first, for example with llama.cpp's convert_hf_to_gguf.py"
CONVERT_ADAPTER = "convert the adapter first, with llama.cpp's convert_lora_to_gguf.py"
FIELDS = {"from": "files", "draft": "draft_files", "adapter": "adapters"}
"""The field of /api/create for the files of each Modelfile command."""


class ModelfileError(OutriderError):
    """A Modelfile, or a file that it names, cannot be used."""


@dataclass(frozen=True, slots=True)
class CreatePlan:
    """The body of POST /api/create, and the files to upload before."""

    body: Json
    files: tuple[tuple[str, Path], ...]  # the field of the body, and the file


def plan_create(model: str, modelfile: Path | None, **more: str) -> CreatePlan:
    """The plan for `modelfile`; without one, for this folder's Modelfile or its model files.

    `more` are further fields of the body; empty ones are left out.

    Raises ModelfileError, and BadRequest for an invalid parameter.
    """
    path = modelfile or Path("Modelfile")
    try:
        parsed = parse_modelfile(_text(path, is_chosen=modelfile is not None))
    except InvalidModelfile as error:
        raise ModelfileError(str(error)) from error
    files = tuple(dict.fromkeys(_files(parsed, path.parent)))
    _check_files(files)
    stated = {key: value for key, value in more.items() if value}
    body = {"model": model, **_text_fields(parsed), **_names(parsed, path.parent), **stated}
    return CreatePlan(body, files)


def _names(parsed: Modelfile, folder: Path) -> Json:
    """The models that the Modelfile names, by field; the last one of a command counts."""
    fields = {}
    for command in ("from", "draft"):
        for text in parsed.all(command):
            if not _find(text, folder):
                fields[command] = text
    return fields


def _text(path: Path, *, is_chosen: bool) -> str:
    try:
        return decode_modelfile(path.read_bytes())
    except FileNotFoundError:
        if is_chosen:
            raise ModelfileError(f"specified Modelfile wasn't found: {path}") from None
        return "FROM ."
    except OSError as error:
        raise ModelfileError(f"{path} cannot be read: {error.strerror}") from error


def _text_fields(parsed: Modelfile) -> Json:
    """All fields except the files; empty ones are left out."""
    messages = [{"role": role, "content": text} for role, text in parsed.keyed("message")]
    fields = {
        **{key: parsed.last(key) for key in ("template", "system", "renderer", "parser")},
        "requires": parsed.last("requires").removeprefix("v"),
        "license": list(parsed.all("license")),
        "parameters": read_parameters(parsed.keyed("parameter")),
        "messages": messages,
    }
    return {key: value for key, value in fields.items() if value}


def _files(parsed: Modelfile, folder: Path) -> Iterator[tuple[str, Path]]:
    """The named files by field; a FROM or DRAFT that names no file has to name a model."""
    adapter = parsed.last("adapter")
    named = {"from": parsed.all("from"), "draft": parsed.all("draft")}
    for command, texts in {**named, "adapter": (adapter,) if adapter else ()}.items():
        for text in texts:
            found = _find(text, folder)
            if not (found or (command != "adapter" and _is_name(text))):
                raise ModelfileError(f"{command.upper()} {text}: there is no such file")
            if command != "from":
                _require_gguf(found, CONVERT if command == "draft" else CONVERT_ADAPTER)
            for path in found:
                yield FIELDS[command], path


def _find(text: str, folder: Path) -> list[Path]:
    """The model files at a path relative to the Modelfile's folder; empty if it is no path."""
    path = folder / os.path.expanduser(text)  # Path.expanduser raises for an unknown user
    try:
        if path.is_file():
            return _with_parts(path)
        if not path.is_dir():
            return []
        return _find_in(path, is_name=_is_name(text))
    except OSError as error:
        raise ModelfileError(f"{path} cannot be read: {error.strerror}") from error


def _find_in(folder: Path, *, is_name: bool) -> list[Path]:
    """The model files of a folder; empty if it has none and its name may be a model's."""
    if ggufs := sorted(folder.glob(WEIGHTS)):
        _require_gguf(ggufs, CONVERT)
        return ggufs
    if tensors := sorted(folder.glob(SAFETENSORS)):
        return tensors + sorted(path for pattern in BESIDE for path in folder.glob(pattern))
    if is_name:
        return []
    if any(True for pattern in UNUSABLE for _ in folder.glob(pattern)):
        raise ModelfileError(f"{folder} holds neither GGUF nor safetensors files: {CONVERT}")
    raise ModelfileError("no Modelfile or safetensors files found")


def _with_parts(path: Path) -> list[Path]:
    """The file, or all the parts of a split model of which it is one."""
    _require_gguf([path], CONVERT)
    parts = [path.with_name(name) for name in part_names(path.name)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ModelfileError(
            f"{path} is one of {len(parts)} parts, and {', '.join(missing[:3])} is not beside it"
        )
    return parts


def _require_gguf(paths: Sequence[Path], advice: str) -> None:
    for path in paths:
        _check_format(path, advice)


def _check_format(path: Path, advice: str) -> None:
    """Refuses a file before it is uploaded in vain."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise ModelfileError(f"{path} cannot be read: {error.strerror}") from error
    if start != MAGIC:
        raise ModelfileError(f"{path} is not in GGUF format: {advice}")


def _is_name(text: str) -> bool:
    """Whether it is a valid model name; a file suffix makes it a file."""
    if text.endswith((".gguf", ".safetensors", ".bin")):
        return False
    try:
        Name.parse(text)
    except InvalidName:
        return False
    return True


def _check_files(files: tuple[tuple[str, Path], ...]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    bases = {path.resolve() for field, path in files if field == "files"}
    for field, path in files:
        if field == "draft_files" and path.resolve() in bases:
            raise ModelfileError(f"DRAFT must not reference the same local path as FROM: {path}")
        other = seen.setdefault((field, path.name), path)
        if other != path:
            raise ModelfileError(f"{other} and {path} have the same name; rename one of them")
