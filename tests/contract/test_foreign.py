"""Models as Ollama's library has them are served; their files stay as they are (CONTRACT 6.6)."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import Daemon
from foreign import Flaws, write_foreign
from tiny_gptoss import write_gptoss
from weights import import_gguf

pytestmark = pytest.mark.contract

FLAWS = Flaws(
    without=("gpt-oss.expert_feed", "gpt-oss.rope.scaling.type"),
    architecture="gptoss",
    tensors={
        "attn_output.weight": "attn_out.weight",
        "attn_output.bias": "attn_out.bias",
        "attn_sinks.weight": "attn_sinks",
        "post_attention_norm.weight": "ffn_norm.weight",
    },
)


def test_a_gptoss_says_what_the_sound_one_says(
    daemon: Daemon, store_root: Path, tmp_path: Path
) -> None:
    sound = write_gptoss(tmp_path / "sound.gguf")
    foreign = write_foreign(tmp_path / "foreign.gguf", sound, FLAWS)
    blobs = {name: import_gguf(store_root, name, path) for name, path in (
        ("sound-gptoss", sound), ("foreign-gptoss", foreign)
    )}  # fmt: skip
    before = blobs["foreign-gptoss"].read_bytes()
    body = {"prompt": "the hen", "raw": True, "stream": False}
    body |= {"options": {"temperature": 0, "num_predict": 24}}
    texts = set()
    for name in blobs:
        status, answer = daemon.post("/api/generate", {"model": name, **body})
        assert status == 200, answer
        texts.add(answer["response"])
    assert len(texts) == 1
    assert len(texts.pop()) > 10
    assert blobs["foreign-gptoss"].read_bytes() == before
