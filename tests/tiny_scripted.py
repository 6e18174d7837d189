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

EMBD_STEP = 256  # a model has a multiple of so many dimensions: one for each piece of all scripts
LINE_END = "\n"  # with which prompts end: no piece is that alone
END = "<|im_end|>"
SHARPNESS = 4.0  # the logit of the next piece; that of all others is 0
DEFAULT = ""  # the key of the script that follows any other token


def write_scripted(
    path: Path,
    scripts: str | Mapping[str, str],
    *,
    template: str | None = CHATML,
    specials: Sequence[str] = (),
    wholes: Sequence[str] = (),
    ends: bool = True,
    context: int = 4096,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """A model that says its script to whatever it is asked, then stops.

    `scripts`: one text, or texts by the token with which the prompt ends (one of `specials` or a
    single byte), DEFAULT for all others. `specials` are control tokens of the vocabulary; where one
    begins another, the first in the list is taken. In the scripts each is a token once, then plain
    text. So are `wholes`, which are no control tokens: where a grammar leaves no choice, llguidance
    takes the tokens as the tokenizer has them, so that other pieces would be refused. With `ends`
    False a script is repeated without end.

    A prompt that ends with one byte of a script, other than "\n", is continued from there.
    """
    texts = {DEFAULT: scripts} if isinstance(scripts, str) else dict(scripts)
    seen = {LINE_END, *texts} - {DEFAULT, *specials}
    pieces = {start: split(text, specials, seen, wholes) for start, text in texts.items()}
    tokens, types = _vocabulary(specials, wholes, pieces.values())
    shape = _shape(1 + len(texts) + sum(map(len, pieces.values())), context)
    metadata = named("llama", llama_keys(shape) | {"vocab_size": len(tokens)})
    metadata |= tokenizer(tokens, types, template) | dict(extra or {})
    return write_gguf(
        path, metadata, _weights(tokens, pieces, {END, *specials, *wholes}, shape, ends)
    )


def _shape(places: int, context: int) -> Shape:
    """A model that tells so many kinds of tokens apart."""
    embd = -(-places // EMBD_STEP) * EMBD_STEP
    return Shape(layers=1, embd=embd, heads=4, heads_kv=2, ffn=32, context=context)


def split(
    text: str, specials: Sequence[str], seen: set[str], wholes: Sequence[str] = ()
) -> list[str]:
    """The text as pieces that are all different, also from those in `seen`, which they join.

    Raises ValueError for a text between two special tokens that is no piece of its own.
    """
    pieces: list[str] = []
    while text:
        new = [piece for piece in (*specials, *wholes) if piece not in seen]
        piece = next((piece for piece in new if text.startswith(piece)), "")
        if not piece:
            end = min((at for whole in new if (at := text.find(whole)) > 0), default=len(text))
            lengths = range(1, end + 1)
            piece = next((text[:n] for n in lengths if text[:n] not in seen), text[:end])
        text = text[len(piece) :]
        while piece in seen:  # the piece before it takes it in
            if not pieces or pieces[-1] in specials:
                raise ValueError(f"{piece!r} is no piece of its own")
            piece = pieces.pop() + piece
        seen.add(piece)
        pieces.append(piece)
    return pieces


def _vocabulary(
    specials: Sequence[str], wholes: Sequence[str], scripts: Iterable[Sequence[str]]
) -> tuple[list[str], list[int]]:
    pieces = [piece for script in scripts for piece in script if piece not in specials]
    kinds = dict.fromkeys(specials, TokenType.CONTROL)
    kinds |= {piece: TokenType.USER_DEFINED for piece in pieces if piece in wholes}
    kinds |= {spell(piece): TokenType.NORMAL for piece in pieces if piece not in wholes}
    tokens, types = vocabulary()
    new = {token: int(kind) for token, kind in kinds.items() if token not in tokens}
    return [*tokens, *new], [*types, *new.values()]


def spell(text: str) -> str:
    """A text in GPT-2's alphabet of bytes."""
    alphabet = byte_alphabet()
    return "".join(alphabet[byte] for byte in text.encode())


def _weights(
    tokens: list[str],
    scripts: Mapping[str, Sequence[str]],
    verbatim: set[str],
    shape: Shape,
    ends: bool,
) -> Tensors:
    ids = {token: number for number, token in enumerate(tokens)}

    def id_of(piece: str) -> int:
        return ids[piece if piece in verbatim else spell(piece)]

    embd, output = np.zeros((2, len(tokens), shape.embd), np.float32)
    place = 0
    embd[:, 0] = 1.0  # every token without a place of its own leads to the default script

    def link(sources: Sequence[int] | None, target: int) -> None:
        """Let these tokens (None: all without a place) be followed by that one."""
        nonlocal place
        if sources is None:
            output[target, 0] = SHARPNESS
            return
        place += 1
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
    yield from _silent_layers(shape)


def _silent_layers(shape: Shape) -> Tensors:
    draws, embd = Draws(0), shape.embd
    kv = shape.embd // shape.heads * shape.heads_kv
    yield "output_norm.weight", constant(embd)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", constant(embd)
        yield f"{block}.attn_q.weight", draws.matrix(embd, embd)
        yield f"{block}.attn_k.weight", draws.matrix(kv, embd)
        yield f"{block}.attn_v.weight", draws.matrix(kv, embd)
        yield f"{block}.attn_output.weight", np.zeros((embd, embd), np.float32)
        yield f"{block}.ffn_norm.weight", constant(embd)
        yield f"{block}.ffn_gate.weight", draws.matrix(shape.ffn, embd)
        yield f"{block}.ffn_up.weight", draws.matrix(shape.ffn, embd)
        yield f"{block}.ffn_down.weight", np.zeros((embd, shape.ffn), np.float32)
