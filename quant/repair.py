"""What has llama.cpp to be told so that it loads a file that was written for Ollama's own engine?

Ollama's library holds such files (CONTRACT 6.6): architectures of private names, keys that
llama.cpp misses or reads otherwise, and vision, audio and drafter tensors beside those of the
text. A repair states the header that llama.cpp would expect over the same tensor data; the file
stays as it is. Only the text side is repaired.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from .gguf import Array, Header, Scalar, Tensor, Value
from .types import tensor_bytes

# Keys that the model file needs to be read with (`read_header(path, arrays=...)`), if it may have
# the flaw of a Llama 3.
TOKENS: Final = "tokenizer.ggml.tokens"

# Prefixes of the tensors of vision and audio, and of their projectors.
SENSES: Final = ("v.", "a.", "mm.", "model.vision_tower.", "s.")
# Architectures whose file holds vision beside text; by Ollama's name, llama.cpp's.
WITH_VISION: Final = {
    "qwen25vl": "qwen2vl",
    "qwen3vl": "qwen3vl",
    "qwen3vlmoe": "qwen3vlmoe",
    "mistral3": "mistral3",
    "llama4": "llama4",
    "deepseekocr": "deepseek2-ocr",
}
LONG_CONTEXT: Final = 131_072  # tokens; Gemma 3 scales its positions from there on
LLAMA3_EOT: Final = 128_009  # <|eot_id|>
LLAMA3_TEXT_END: Final = 128_001  # <|end_of_text|>, which ends no turn
MROPE_SECTIONS: Final = 4  # llama.cpp reads so many; Ollama writes those that are used

_VOCABULARY = tuple(f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type"))


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of the file."""

    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PlacedTensor:
    """A tensor of the repaired header; its data are these ranges, one after the other."""

    name: str
    kind: str
    shape: tuple[int, ...]  # the row length first
    extents: tuple[Extent, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "PlacedTensor":
        extent = Extent(tensor.offset, tensor.size_bytes)
        return cls(tensor.name, tensor.kind, tensor.shape, (extent,))


@dataclass(frozen=True, slots=True)
class Repair:
    """How the header of a file differs from the one that llama.cpp is shown."""

    values: Mapping[str, Value]  # by key, added or replaced
    keys: Mapping[str, str]  # the new name of each renamed key
    lengths: Mapping[str, int]  # arrays that are cut to so many elements
    tensors: tuple[PlacedTensor, ...] | None  # None: as they are

    @property
    def overrides(self) -> Mapping[str, Scalar] | None:
        """The new values, if they are all there is to do and llama.cpp takes them as overrides."""
        scalars = {k: v for k, v in self.values.items() if not isinstance(v, list | Array)}
        if self.keys or self.lengths or self.tensors is not None or scalars != self.values:
            return None
        return scalars


def plan_repair(header: Header) -> Repair | None:
    """What this file needs; None if llama.cpp loads it as it is, or nothing is known to help.

    A file for which `arrays_for` names arrays is to be read with them.
    """
    rule = _RULES.get(header.architecture)
    if rule is None:
        return None
    draft = _RepairDraft(header)
    rule(draft)
    return draft.repair()


def arrays_for(header: Header) -> Container[str]:
    """The long arrays on which the repair of this file depends."""
    return (TOKENS,) if header.architecture == "llama" and _lacks_llama3(header) else ()


class _RepairDraft:
    """A repair in the making."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.architecture = header.architecture
        self._values: dict[str, Value] = {}
        self._keys: dict[str, str] = {}
        self._lengths: dict[str, int] = {}
        self.tensors = {tensor.name: PlacedTensor.of(tensor) for tensor in header.tensors}
        self._are_changed = False

    def repair(self) -> Repair | None:
        tensors = tuple(self.tensors.values()) if self._are_changed else None
        if not (self._values or self._keys or self._lengths or tensors is not None):
            return None
        return Repair(self._values, self._keys, self._lengths, tensors)

    def value(self, key: str) -> Value | None:
        """The value of a hyperparameter in the file."""
        return self.header.values.get(f"{self.header.architecture}.{key}")

    def set(self, key: str, value: Value) -> None:
        """`key` with a dot in front is one of the architecture."""
        name = f"{self.architecture}{key}" if key.startswith(".") else key
        if self.header.values.get(name) != value:
            self._values[name] = value

    def default(self, key: str, value: Value) -> None:
        """A hyperparameter that the file lacks."""
        if self.value(key) is None:
            self._values[f"{self.architecture}.{key}"] = value

    def become(self, architecture: str) -> None:
        """Renames the architecture and its keys."""
        if architecture == self.architecture:
            return
        old, self.architecture = self.architecture, architecture
        self._values["general.architecture"] = architecture
        for key in self.header.values:
            if key.startswith(f"{old}."):
                self._keys[key] = architecture + key.removeprefix(old)

    def rename_key(self, old: str, new: str) -> None:
        """Renames a hyperparameter, unless the file has the new one too."""
        if self.value(old) is not None and self.value(new) is None:
            self._keys[f"{self.header.architecture}.{old}"] = f"{self.architecture}.{new}"

    def cut_array(self, key: str, count: int) -> None:
        if _length(self.header.values.get(key)) > count:
            self._lengths[key] = count

    def drop(self, prefixes: tuple[str, ...]) -> bool:
        """Whether there were tensors of such names, which are left out now."""
        gone = [name for name in self.tensors if name.startswith(prefixes)]
        for name in gone:
            del self.tensors[name]
        self._are_changed |= bool(gone)
        return bool(gone)

    def rename(self, old: str, new: str) -> None:
        """Renames one tensor."""
        if old in self.tensors and new not in self.tensors:
            self.put(replace(self.tensors.pop(old), name=new))

    def rename_parts(self, parts: Mapping[str, str]) -> None:
        """Renames tensors of blocks by what follows the block's number."""
        for name in list(self.tensors):
            block, part = _block(name)
            if block and part in parts:
                self.rename(name, f"{block}.{parts[part]}")

    def put(self, tensor: PlacedTensor) -> None:
        self.tensors[tensor.name] = tensor
        self._are_changed = True

    def take(self, name: str) -> PlacedTensor:
        self._are_changed = True
        return self.tensors.pop(name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        tensor = self.tensors.get(name)
        return tensor.shape if tensor else None


def _gemma4(draft: _RepairDraft) -> None:
    if not (draft.drop(SENSES) or draft.header.text("tokenizer.ggml.model") == "llama"):
        return
    draft.set("tokenizer.ggml.model", "gemma4")
    draft.rename_parts({"ffn_gate_inp.per_expert_scale": "ffn_down_exps.scale"})
    for name in list(draft.tensors):
        block, part = _block(name)
        if part == "ffn_gate_exps.weight":
            _join_experts(draft, block)


def _join_experts(draft: _RepairDraft, block: str) -> None:
    """One tensor of the gates and ups of each expert in turn, which llama.cpp wants."""
    gate_name, up_name = (f"{block}.ffn_{side}_exps.weight" for side in ("gate", "up"))
    scales = (f"{block}.ffn_{side}_exps.scale" for side in ("gate", "up"))
    gate, up = draft.tensors[gate_name], draft.tensors.get(up_name)
    if up is None or any(scale in draft.tensors for scale in scales):
        return
    if (gate.kind, gate.shape) != (up.kind, up.shape):
        return
    width, rows, experts = gate.shape
    extents = [part for pair in zip(_slices(gate), _slices(up), strict=True) for part in pair]
    draft.take(gate_name)
    draft.take(up_name)
    joined = f"{block}.ffn_gate_up_exps.weight"
    draft.put(PlacedTensor(joined, gate.kind, (width, 2 * rows, experts), tuple(extents)))


def _gemma3(draft: _RepairDraft) -> None:
    if draft.shape("dense.0.weight"):
        _embedding_gemma(draft)
        return
    keys = ("mm.tokens_per_image", "rope.global.freq_base", "rope.local.freq_base")
    is_marked = any(draft.value(key) is not None for key in keys)
    is_marked |= draft.value("attention.layer_norm_rms_epsilon") is None
    if draft.drop(SENSES) or is_marked:
        _settle_gemma3(draft)


def _settle_gemma3(draft: _RepairDraft) -> None:
    draft.rename_key("rope.global.freq_base", "rope.freq_base")
    draft.rename_key("rope.local.freq_base", "rope.freq_base_swa")
    draft.default("attention.layer_norm_rms_epsilon", 1e-6)
    if draft.value("rope.global.freq_base") is None:
        draft.default("rope.freq_base", 1e6)
    if draft.value("rope.local.freq_base") is None:
        draft.default("rope.freq_base_swa", 1e4)
    if (draft.header.context_length or 0) >= LONG_CONTEXT:
        draft.default("rope.scaling.type", "linear")
        draft.default("rope.scaling.factor", 8.0)
    if shape := draft.shape("token_embd.weight"):
        _cut_vocabulary(draft, shape[1])


def _embedding_gemma(draft: _RepairDraft) -> None:
    draft.become("gemma-embedding")
    _settle_gemma3(draft)
    for old, new in (("dense.0", "dense_2"), ("dense.1", "dense_3")):
        if shape := draft.shape(f"{old}.weight"):
            draft.set(f".{new}_feat_in", shape[0])
            draft.set(f".{new}_feat_out", shape[1])
        draft.rename(f"{old}.weight", f"{new}.weight")
    draft.rename("norm.weight", "output_norm.weight")


def _gemma3n(draft: _RepairDraft) -> None:
    by_layer, embedding = draft.shape("per_layer_token_embd.weight"), "token_embd.weight"
    shape = draft.shape(embedding)
    if by_layer is None or shape is None:
        return
    count = by_layer[1]
    _cut_vocabulary(draft, count)
    if shape[1] > count:
        tensor = draft.take(embedding)
        cut = (shape[0], count)
        size_bytes = tensor_bytes(tensor.kind, cut)
        extent = Extent(tensor.extents[0].offset, size_bytes)
        draft.put(PlacedTensor(embedding, tensor.kind, cut, (extent,)))


def _gptoss(draft: _RepairDraft) -> None:
    draft.become("gpt-oss")
    if shape := draft.shape("blk.0.ffn_down_exps.weight"):
        draft.default("expert_feed_forward_length", shape[0])
    draft.default("rope.scaling.type", "yarn")
    draft.set("tokenizer.ggml.pre", "gpt-4o")
    parts = {f"attn_out.{kind}": f"attn_output.{kind}" for kind in ("weight", "bias")}
    parts |= {"attn_sinks": "attn_sinks.weight", "ffn_norm.weight": "post_attention_norm.weight"}
    draft.rename_parts(parts)


def _qwen35(draft: _RepairDraft) -> None:
    """The head that drafts is left out: what Ollama calls its tensors is not known for sure."""
    is_marked = any(key.startswith(f"{draft.architecture}.vision.") for key in draft.header.values)
    if draft.drop((*SENSES, "mtp.")) or is_marked:
        _settle_qwen(draft)
        _pad_sections(draft)


def _qwen3next(draft: _RepairDraft) -> None:
    if draft.shape("blk.0.ssm_dt"):
        _settle_qwen(draft)


def _settle_qwen(draft: _RepairDraft) -> None:
    heads = draft.value("attention.head_count_kv")
    if isinstance(heads, list):
        draft.set(".attention.head_count_kv", max(int(count) for count in heads))
    draft.rename_parts({"ssm_dt": "ssm_dt.bias"})


def _with_vision(draft: _RepairDraft) -> None:
    if not draft.drop(SENSES) and draft.architecture == WITH_VISION[draft.architecture]:
        return
    draft.become(WITH_VISION[draft.architecture])
    for key in ("rope.mrope_section", "mrope_sections"):
        draft.rename_key(key, "rope.dimension_sections")
    _pad_sections(draft)


def _pad_sections(draft: _RepairDraft) -> None:
    keys = ("rope.dimension_sections", "rope.mrope_section", "mrope_sections")
    sections = next((v for v in map(draft.value, keys) if isinstance(v, list)), None)
    if sections is not None and len(sections) < MROPE_SECTIONS:
        padded = [*sections, *[0] * (MROPE_SECTIONS - len(sections))]
        draft.set(".rope.dimension_sections", padded)


def _lfm2(draft: _RepairDraft) -> None:
    if not draft.shape("output_norm.weight"):
        return
    draft.rename("output_norm.weight", "token_embd_norm.weight")
    draft.set("tokenizer.ggml.pre", "lfm2")
    if shape := draft.shape("blk.0.ffn_gate.weight"):
        draft.set(".feed_forward_length", shape[1])


def _llama(draft: _RepairDraft) -> None:
    tokens = draft.header.values.get(TOKENS)
    if not (isinstance(tokens, list) and _lacks_llama3(draft.header)):
        return
    if "<|start_header_id|>" not in tokens:
        return
    draft.set("tokenizer.ggml.pre", "llama-bpe")
    draft.set("tokenizer.ggml.eot_token_id", LLAMA3_EOT)
    if draft.header.number("tokenizer.ggml.eos_token_id") in (None, LLAMA3_TEXT_END):
        draft.set("tokenizer.ggml.eos_token_id", LLAMA3_EOT)


def _lacks_llama3(header: Header) -> bool:
    """Whether a vocabulary of Llama 3's size is split otherwise than Llama 3's."""
    kind, pre = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    has_size = _length(header.values.get(TOKENS)) > LLAMA3_EOT
    return kind == "gpt2" and pre in (None, "default") and has_size


def _length(array: Value | None) -> int:
    """The number of elements; 0 for anything but an array."""
    if isinstance(array, Array):
        return array.count
    return len(array) if isinstance(array, list) else 0


def _cut_vocabulary(draft: _RepairDraft, count: int) -> None:
    for key in _VOCABULARY:
        draft.cut_array(key, count)


def _slices(tensor: PlacedTensor) -> list[Extent]:
    """The data of each matrix of a tensor that is one range of the file."""
    (extent,), count = tensor.extents, prod(tensor.shape[2:])
    size_bytes = extent.size_bytes // count
    return [Extent(extent.offset + i * size_bytes, size_bytes) for i in range(count)]


def _block(name: str) -> tuple[str, str]:
    """The block and the rest of a tensor's name; two empty strings if it is in no block."""
    match name.split(".", 2):
        case ["blk", number, part]:
            return f"blk.{number}", part
    return "", ""


_RULES: Final[Mapping[str, Callable[[_RepairDraft], None]]] = {
    "gemma4": _gemma4,
    "gemma3": _gemma3,
    "gemma3n": _gemma3n,
    "gptoss": _gptoss,
    "qwen35": _qwen35,
    "qwen35moe": _qwen35,
    "qwen3next": _qwen3next,
    "lfm2": _lfm2,
    "llama": _llama,
    **dict.fromkeys(WITH_VISION, _with_vision),
}
