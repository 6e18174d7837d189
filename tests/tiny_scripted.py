"""How do tests get a model that says a chosen text: a tiny llama whose greedy output is a script.

The newest token alone decides what comes next: the layers add nothing to what goes through them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import TokenType
from tiny import (
    CHATML,
    Draws,
    Shape,
    Tensors,
    byte_alphabet,
    constant,
    llama_keys,
    named,
    tokenizer,
    vocabulary,
    write_gguf,
)

EMBD = 256  # dimensions; one for each piece of all scripts, and one for every other token
END = "<|im_end|>"
SHARPNESS = 4.0  # the logit of the next piece; that of all others is 0
DEFAULT = ""  # the key of the script that follows any other token


def write_scripted(
    path: Path,
    scripts: str | Mapping[str, str],
    *,
    template: str | None = CHATML,
    specials: Sequence[str] = (),
    ends: bool = True,
    context: int = 4096,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """A model that says its script to whatever it is asked, then stops.

    `scripts`: one text, or texts by the token with which the prompt ends (one of `specials` or a
    single byte), DEFAULT for all others. `specials` are control tokens of the vocabulary; each may
    occur once in all scripts. With `ends` False a script is repeated without end.
    """
    texts = {DEFAULT: scripts} if isinstance(scripts, str) else dict(scripts)
    seen: set[str] = set()
    pieces = {start: list(split(text, specials, seen)) for start, text in texts.items()}
    tokens, types = _vocabulary(specials, pieces.values())
    metadata = named(
        "llama", llama_keys(SHAPE) | {"vocab_size": len(tokens), "context_length": context}
    )
    metadata |= tokenizer(tokens, types, template) | dict(extra or {})
    return write_gguf(path, metadata, _weights(tokens, pieces, set(specials), ends))


SHAPE = Shape(layers=1, embd=EMBD, heads=4, heads_kv=2, ffn=32, context=4096)


def split(text: str, specials: Sequence[str], seen: set[str]) -> Iterable[str]:
    """The text as pieces that are all different, also from those in `seen`, which they join.

    Raises ValueError for a special token that occurs twice.
    """
    pieces: list[str] = []
    while text:
        special = next((s for s in specials if text.startswith(s)), "")
        if special in seen:
            raise ValueError(f"{special} occurs twice")
        end = min((at for s in specials if (at := text.find(s)) > 0), default=len(text))
        lengths = (n for n in range(1, end + 1) if text[:n] not in seen)
        piece = special or text[: next(lengths, 0)]
        if not piece:  # the rest is known already: the piece before it takes it in
            piece = pieces.pop() + text[:end]
            text = text[end:]
        else:
            text = text[len(piece) :]
        seen.add(piece)
        pieces.append(piece)
    return pieces


def _vocabulary(
    specials: Sequence[str], scripts: Iterable[Sequence[str]]
) -> tuple[list[str], list[int]]:
    tokens, types = vocabulary()
    new = [s for s in specials if s not in tokens]
    tokens, types = tokens + new, types + [int(TokenType.CONTROL)] * len(new)
    spelled = [spell(piece) for script in scripts for piece in script if piece not in specials]
    words = [word for word in dict.fromkeys(spelled) if word not in tokens]
    return tokens + words, types + [int(TokenType.NORMAL)] * len(words)


def spell(text: str) -> str:
    """A text in GPT-2's alphabet of bytes."""
    alphabet = byte_alphabet()
    return "".join(alphabet[byte] for byte in text.encode())


def _weights(
    tokens: list[str], scripts: Mapping[str, Sequence[str]], specials: set[str], ends: bool
) -> Tensors:
    ids = {token: number for number, token in enumerate(tokens)}

    def id_of(piece: str) -> int:
        return ids[piece if piece in specials or piece == END else spell(piece)]

    embd, output = np.zeros((2, len(tokens), EMBD), np.float32)
    place = 0
    embd[:, 0] = 1.0  # every token without a place of its own leads to the default script

    def link(sources: Sequence[int] | None, target: int) -> None:
        """Let these tokens (None: all without a place) be followed by that one."""
        nonlocal place
        if sources is None:
            output[target, 0] = SHARPNESS
            return
        place += 1
        assert place < EMBD, "the scripts have too many pieces"
        for source in sources:
            embd[source] = 0.0
            embd[source, place] = 1.0
        output[target, place] = SHARPNESS

    for start, script in scripts.items():
        chain = [id_of(piece) for piece in script]
        link(None if start == DEFAULT else [id_of(start)], chain[0] if chain else ids[END])
        for source, target in zip(chain, [*chain[1:], ids[END] if ends else chain[0]], strict=True):
            link([source], target)
    yield "token_embd.weight", embd
    yield "output.weight", output
    yield from _silent_layers()


def _silent_layers() -> Tensors:
    draws, kv = Draws(0), SHAPE.embd // SHAPE.heads * SHAPE.heads_kv
    yield "output_norm.weight", constant(EMBD)
    for layer in range(SHAPE.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", constant(EMBD)
        yield f"{block}.attn_q.weight", draws.matrix(EMBD, EMBD)
        yield f"{block}.attn_k.weight", draws.matrix(kv, EMBD)
        yield f"{block}.attn_v.weight", draws.matrix(kv, EMBD)
        yield f"{block}.attn_output.weight", np.zeros((EMBD, EMBD), np.float32)
        yield f"{block}.ffn_norm.weight", constant(EMBD)
        yield f"{block}.ffn_gate.weight", draws.matrix(SHAPE.ffn, EMBD)
        yield f"{block}.ffn_up.weight", draws.matrix(SHAPE.ffn, EMBD)
        yield f"{block}.ffn_down.weight", np.zeros((EMBD, SHAPE.ffn), np.float32)
