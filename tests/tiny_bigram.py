"""How tests get a drafter that is right as often as they ask: a tiny Gemma 4 and its drafter.

The target knows 676 words of two letters, and repeats them in a fixed order: the newest word
decides which one is likeliest next. At temperature 1 it leaves that order now and then. Its
drafter knows a chosen part of the order and is wrong about the rest. The layers are tiny_gemma's,
with their whole graph, but the newest token is louder than all that they add.
"""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase
from typing import TypeAlias

import numpy as np
from gguf import TokenType
from numpy.typing import NDArray
from tiny import MERGES, Draws, tokenizer, vocabulary, write_gguf
from tiny_gemma import (
    DRAFTER_EMBD,
    EMBD,
    Variant,
    assistant_metadata,
    assistant_tensors,
    gemma4_metadata,
    gemma4_tensors,
)

Matrix: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int64]

LOUDNESS = 4.0  # RMS of a token; a layer adds a tenth of that
SHARPNESS = 8.0  # the logit of the next word; those of the others spread by an eighth of it
COMMON = 2.0  # what the first dimension of every token is, where the others spread by 1
SILENCE = 8.0  # how strongly that dimension speaks against tokens that are no words
DRAFTER_LAYERS = 2

INITIALS = [f"Ġ{first}" for first in ascii_lowercase]  # Ġ is a space
WORDS = [f"{initial}{second}" for initial in INITIALS for second in ascii_lowercase]


def write_bigram_pair(
    folder: Path,
    *,
    agreement: float,
    layers: int = 4,
    window: int = 32,
    context: int = 2048,
    shared_kv_layers: int = 0,
    per_layer_embd: int = 0,
    experts: int = 0,
    seed: int = 0,
) -> tuple[Path, Path]:
    """An F32 target and its drafter, which knows what follows that part of all words.

    About the other words it is wrong, and as sure as if it were right. The target is the same
    whatever the agreement, and never ends by itself; its variants are those of `write_gemma4`.
    """
    variant = Variant(layers, shared_kv_layers, per_layer_embd, experts)
    tokens, spelling = _vocabulary()
    words = np.array([tokens.index(word) for word in _circle(seed)])
    right = np.roll(words, -1)
    target = dict(gemma4_tensors(Draws(seed), tokens, variant, SHARPNESS))
    embeddings = target["token_embd.weight"]  # llama.cpp multiplies them by the root of EMBD
    embeddings[:, 0] = COMMON / EMBD**0.5
    target["output.weight"] = _output(embeddings, words, right)
    target["token_embd.weight"] = LOUDNESS * embeddings
    output = _output(embeddings, words, _drafts(right, agreement, seed))
    output *= np.float32((EMBD / DRAFTER_EMBD) ** 0.5)  # more dimensions share its hidden row
    drafter = assistant_tensors(Draws(seed + 1), DRAFTER_LAYERS, output)
    of_target = gemma4_metadata(variant, window, context) | spelling
    of_drafter = assistant_metadata(DRAFTER_LAYERS, window, context) | spelling
    folder.mkdir(parents=True, exist_ok=True)
    return (
        write_gguf(folder / "target.gguf", of_target, target.items()),
        write_gguf(folder / "drafter.gguf", of_drafter, drafter),
    )


def recite(word: str, count: int, *, seed: int = 0) -> str:
    """The words of the target after a text that ends in this one, such as " ab"."""
    circle = [token.replace("Ġ", " ") for token in _circle(seed)]
    start = circle.index(word) + 1
    return "".join(circle[(start + i) % len(circle)] for i in range(count))


def _circle(seed: int) -> list[str]:
    """The words in the order in which they follow each other; after the last comes the first."""
    return [WORDS[i] for i in np.random.default_rng(seed).permutation(len(WORDS))]


def _vocabulary() -> tuple[list[str], dict[str, object]]:
    """Tokens and metadata. Text that is tokenized gives the very words that it was made of."""
    tokens, types = vocabulary()
    tokens += INITIALS + WORDS
    types += [int(TokenType.NORMAL)] * len(INITIALS + WORDS)
    merges = [f"{token[:-1]} {token[-1]}" for token in INITIALS + WORDS]
    return tokens, tokenizer(tokens, types) | {"tokenizer.ggml.merges": [*merges, *MERGES]}


def _output(embeddings: Matrix, words: Ids, followers: Ids) -> Matrix:
    """Logits that are high for the follower of the newest word, low for what is no word."""
    units = embeddings[words, 1:]
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    output = np.zeros_like(embeddings)
    output[:, 0] = -SILENCE
    output[followers, 0] = 0.0
    output[followers, 1:] = SHARPNESS / EMBD**0.5 * units
    return output


def _drafts(right: Ids, agreement: float, seed: int) -> Ids:
    """Followers of which that part is right; the others have changed places in a circle."""
    order = np.random.default_rng(seed + 1).permutation(len(right))
    wrong = order[round(agreement * len(right)) :]
    drafts = right.copy()
    drafts[wrong] = right[np.roll(wrong, 1)]
    return drafts
