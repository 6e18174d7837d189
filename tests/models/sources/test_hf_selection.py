"""Which files does a tag name in repositories as publishers lay them out?"""

from __future__ import annotations

import pytest
from outrider.models.errors import PullFailed
from outrider.models.sources.hf_hub import HubFile, HubRepository
from outrider.models.sources.hf_selection import (
    Selection,
    drafters_of,
    find_mark,
    quant_of,
    select_files,
)

pytestmark = pytest.mark.unit

PLAIN = (
    "m-Q2_K.gguf",
    "m-Q4_0.gguf",
    "m-Q4_K_M.gguf",
    "m-Q4_K_S.gguf",
    "m-Q8_0.gguf",
    "m-f16.gguf",
)
UNSLOTH = (
    *("m-UD-Q4_K_XL.gguf", "m-UD-Q2_K_XL.gguf", "m-IQ4_XS.gguf", "m-Q4_K_M.gguf", "m-Q6_K.gguf"),
    *("BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"),
    *("UD-Q8_K_XL/m-00001-of-00002.gguf", "UD-Q8_K_XL/m-00002-of-00002.gguf"),
    *("mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf", "imatrix_unsloth.gguf"),
    "README.md",
)
PAIRED = (
    *("m-it-Q4_0.gguf", "m-it-Q8_0.gguf", "mtp-m-it-Q4_0.gguf", "mtp-m-it-Q8_0.gguf"),
    *("m-it-assistant-F16.gguf", "m-it-EAGLE3.gguf", "mmproj-m-it-f16.gguf"),
)


def repository(paths: tuple[str, ...], name: str = "user/m-GGUF") -> HubRepository:
    files = tuple(HubFile(path, 10, f"sha256:{i:064x}") for i, path in enumerate(paths))
    return HubRepository(name, "c0ffee", files=files)


def select(paths: tuple[str, ...], tag: str = "latest", name: str = "user/m-GGUF") -> Selection:
    return select_files(repository(paths, name), tag)


@pytest.mark.parametrize(
    ("paths", "tag", "expected"),
    [
        (PLAIN, "latest", "m-Q4_K_M.gguf"),
        (PLAIN, "Q8_0", "m-Q8_0.gguf"),
        (PLAIN, "q4_k_s", "m-Q4_K_S.gguf"),
        (PLAIN, "F16", "m-f16.gguf"),
        (PLAIN, "fp16", "m-f16.gguf"),
        (PLAIN, "m-Q2_K.gguf", "m-Q2_K.gguf"),
        (PLAIN, "M-q2_k", "m-Q2_K.gguf"),
        (PLAIN[:1] + PLAIN[3:], "latest", "m-Q4_K_S.gguf"),
        (("m-Q2_K.gguf", "m-Q8_0.gguf", "m-BF16.gguf"), "latest", "m-Q8_0.gguf"),
        (("m-F32.gguf", "m-Q3_K_M.gguf"), "latest", "m-Q3_K_M.gguf"),
        (("strange.gguf",), "latest", "strange.gguf"),
        (UNSLOTH, "latest", "m-Q4_K_M.gguf"),
        (UNSLOTH[:3], "latest", "m-UD-Q4_K_XL.gguf"),
        (UNSLOTH, "UD-Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
        (UNSLOTH, "Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
        (UNSLOTH, "BF16", "BF16/m-BF16-00001-of-00002.gguf"),
        (UNSLOTH, "ud-q8_k_xl", "UD-Q8_K_XL/m-00001-of-00002.gguf"),
        (UNSLOTH, "m-BF16", "BF16/m-BF16-00001-of-00002.gguf"),
        (UNSLOTH, "m-BF16-00002-of-00002.gguf", "BF16/m-BF16-00001-of-00002.gguf"),
        (PAIRED, "latest", "m-it-Q4_0.gguf"),
        (PAIRED, "Q8_0", "m-it-Q8_0.gguf"),
        (("m.i1-Q4_K_M.gguf", "m.Q4_K_M.gguf"), "i1-Q4_K_M", "m.i1-Q4_K_M.gguf"),
        (("m.i1-Q4_K_M.gguf", "m.Q4_K_M.gguf"), "Q4_K_M", "m.Q4_K_M.gguf"),
        (("sub/m-Q4_K_M.gguf", "m-q4_k_m.gguf"), "Q4_K_M", "m-q4_k_m.gguf"),
        (("mmproj-F16.gguf",), "latest", "mmproj-F16.gguf"),
    ],
)
def test_the_model(paths: tuple[str, ...], tag: str, expected: str) -> None:
    assert select(paths, tag).model.files[0].path == expected


def test_all_parts_in_their_order() -> None:
    model = select(UNSLOTH[::-1], "BF16").model
    assert [f.path[-19:] for f in model.files] == ["00001-of-00002.gguf", "00002-of-00002.gguf"]
    assert model.size_bytes == 20


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (UNSLOTH, "mmproj-F16.gguf"),
        (PAIRED, "mmproj-m-it-f16.gguf"),
        (PLAIN, None),
        (("m-Q4_0.gguf", "mmproj-m-Q8_0.gguf", "mmproj-m-F32.gguf"), "mmproj-m-Q8_0.gguf"),
        (("a/m-Q4_K_M.gguf", "a/mmproj-F32.gguf", "mmproj-F16.gguf"), "a/mmproj-F32.gguf"),
    ],
)
def test_the_projector(paths: tuple[str, ...], expected: str | None) -> None:
    found = select(paths).projector
    assert (found and found.path) == expected


def test_the_best_drafter_of_each_kind() -> None:
    drafters = [group.files[0].path for group in select(PAIRED).drafters]
    assert drafters == ["mtp-m-it-Q8_0.gguf", "m-it-assistant-F16.gguf", "m-it-EAGLE3.gguf"]
    assert select(UNSLOTH).drafters == ()


def test_a_word_of_the_repository_marks_no_drafter() -> None:
    """A model that is called an assistant is one, and a repository may hold a drafter alone."""
    paths = ("my-assistant-7b-Q4_K_M.gguf", "my-assistant-7b-Q8_0.gguf")
    selection = select(paths, name="user/My-Assistant-7B-GGUF")
    assert (selection.model.files[0].path, selection.drafters) == (paths[0], ())
    assert select(("x-eagle3.gguf",), name="user/heads").model.files[0].path == "x-eagle3.gguf"
    assert find_mark("mtp-x", "user/x") == "mtp-"
    assert find_mark("x-mtp-Q8_0", "user/x") == ""


def test_the_drafters_of_a_named_repository() -> None:
    alone = repository(("a-Q4_0.gguf", "a-Q8_0.gguf"), "user/a-assistant")
    assert [group.files[0].path for group in drafters_of(alone)] == ["a-Q8_0.gguf"]
    marked = repository(("a-Q4_0.gguf", "a-dflash.gguf"), "user/a")
    assert [group.files[0].path for group in drafters_of(marked)] == ["a-dflash.gguf"]


def test_texts_of_the_first_folder_alone() -> None:
    paths = ("m-Q4_0.gguf", "template", "params", "old/system", "chat_template.jinja")
    assert [file.path for file in select(paths).texts] == ["template", "params"]


@pytest.mark.parametrize(
    ("paths", "tag", "message"),
    [
        (("model.safetensors",), "latest", "user/m-GGUF has no GGUF files; pull a repository that"),
        (PLAIN, "Q5_K_M", "file does not exist: user/m-GGUF has no Q5_K_M; it has F16, Q2_K, Q4_0"),
        (UNSLOTH[:-2][:6], "BF16", "of the 2 parts of m-BF16 these are missing .*: 2; choose"),
    ],
)
def test_refusals(paths: tuple[str, ...], tag: str, message: str) -> None:
    with pytest.raises(PullFailed, match=f"^pull model manifest: {message}"):
        select(paths, tag)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("gemma-3-4b-it-q4_0.gguf", "Q4_0"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("Qwen3-8B-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("m.IQ4_NL.gguf", "IQ4_NL"),
        ("m-Q3_K_XL-imat.gguf", "Q3_K_XL"),
        ("m-fp16.gguf", "F16"),
        ("m-TQ1_0.gguf", "TQ1_0"),
        ("Q4_K_M/model.gguf", "Q4_K_M"),
        ("q8-folder/bf16.gguf", "BF16"),
        ("Qwen3-8B.gguf", ""),
        ("ggml-model.gguf", ""),
    ],
)
def test_quantisations_as_publishers_write_them(path: str, expected: str) -> None:
    assert quant_of(path) == expected
