"""Which files of a repository make the model that a tag names?"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import PullFailed
from ..name import DEFAULT_TAG
from .hf_hub import HubFile, HubRepository

# As file names spell them: llama.cpp's types, sizes of publishers (`_L`, `_XL`), and `UD-` mixes.
_QUANT: Final = re.compile(
    r"(?<![a-z0-9])(?:ud-)?(?:i?q\d(?:_(?:\d|k|nl|p|[sml]|x{1,2}[sl]))*|tq\d_\d|b?f16|fp16|fp?32"
    r"|mxfp4(?:_moe)?|nvfp4)(?![a-z0-9])",
    re.IGNORECASE,
)
_PART: Final = re.compile(
    r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE
)
_SUFFIX: Final = ".gguf"
_OTHER_NAMES: Final = {"FP16": "F16", "FP32": "F32"}

# The default first, then what comes nearest to it: the same bits, more, fewer, unquantised.
DEFAULT_ORDER: Final = (
    *("Q4_K_M", "UD-Q4_K_M", "UD-Q4_K_XL", "Q4_K_XL", "Q4_K_L", "Q4_K_S", "UD-Q4_K_S", "Q4_K"),
    *("IQ4_NL", "IQ4_XS", "UD-IQ4_NL", "UD-IQ4_XS", "Q4_0", "Q4_1", "MXFP4", "MXFP4_MOE", "NVFP4"),
    *("Q5_K_M", "UD-Q5_K_XL", "Q5_K_L", "Q5_K_S", "UD-Q5_K_S", "Q5_K", "Q5_0", "Q5_1"),
    *("Q6_K", "UD-Q6_K_XL", "UD-Q6_K", "Q6_K_L", "Q8_0", "UD-Q8_K_XL"),
    *("Q3_K_L", "UD-Q3_K_XL", "Q3_K_XL", "Q3_K_M", "UD-Q3_K_M", "IQ3_M", "IQ3_S", "Q3_K_S"),
    *("IQ3_XS", "IQ3_XXS", "UD-IQ3_XXS", "Q2_K_L", "UD-Q2_K_XL", "Q2_K", "IQ2_M", "UD-IQ2_M"),
    *("BF16", "F16", "F32"),
)
PROJECTOR_ORDER: Final = ("F16", "BF16", "Q8_0", "F32")  # an encoder's images suffer below 8 bits
DRAFTER_ORDER: Final = ("Q8_0", *DEFAULT_ORDER)  # a drafter is small, and right more often

_PROJECTOR: Final = "mmproj"
_MATRIX: Final = "imatrix"
DRAFTER_MARKS: Final = ("mtp-", "assistant", "eagle3", "eagle-3", "dflash")
TEXTS: Final = ("template", "system", "params")  # a publisher's own, as the hub's route uses them


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model as one file or as all parts of it, in their order."""

    quant: str  # in upper case; "" if the name tells none
    stem: str  # the name without folder, number of the part and suffix
    files: tuple[HubFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def label(self) -> str:
        """The file, and of how many parts it is the first."""
        count = len(self.files)
        return self.files[0].path + (f" and {count - 1} more parts" if count > 1 else "")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is pulled: `drafters` are possible ones, the best of each kind."""

    model: ModelFiles
    projector: HubFile | None
    drafters: tuple[ModelFiles, ...]
    texts: tuple[HubFile, ...]


def select_files(repository: HubRepository, tag: str) -> Selection:
    """The files for `tag`: a quantisation, a file's name, or `latest` for the default.

    Raises PullFailed if there is no such file, or a part of it is missing.
    """
    groups = [g for g in _groups(repository) if _MATRIX not in g.stem.lower()]
    if not groups:
        raise PullFailed(
            f"pull model manifest: {repository.id} has no GGUF files; pull a repository that has, "
            "such as one whose name ends in -GGUF"
        )
    projectors = [group for group in groups if _PROJECTOR in group.stem.lower()]
    drafters = [g for g in groups if g not in projectors and find_mark(g.stem, repository.id)]
    models = [group for group in groups if group not in projectors and group not in drafters]
    model = _choose(repository, models or drafters or projectors, tag)
    _require_whole(model)
    others = tuple(_best_of_each_mark(repository.id, [d for d in drafters if d != model]))
    texts = tuple(file for name in TEXTS if (file := repository.find(name)))
    return Selection(model, _projector(model, projectors), others, texts)


def drafters_of(repository: HubRepository) -> tuple[ModelFiles, ...]:
    """The possible drafters of a repository that another one names: all if none is marked."""
    groups = [group for group in _groups(repository) if _PROJECTOR not in group.stem.lower()]
    marked = [group for group in groups if find_mark(group.stem, repository.id)]
    best = tuple(_best_of_each_mark(repository.id, marked))
    return best or tuple(sorted(groups, key=lambda g: _rank(g, DRAFTER_ORDER))[:1])


def find_mark(stem: str, repository: str) -> str:
    """The sign of a drafter in a file's name; "" if none, or if the whole repository bears it."""
    everywhere = repository.rpartition("/")[2].lower()
    for mark in DRAFTER_MARKS:
        found = stem.lower().startswith(mark) if mark.endswith("-") else mark in stem.lower()
        if found and mark not in everywhere:
            return mark
    return ""


def quant_of(path: str) -> str:
    """The quantisation that a path tells: by the file's name, else by its folder's; or ""."""
    for part in reversed(path.removesuffix(_SUFFIX).split("/")[-2:]):
        found = _QUANT.findall(part)
        if found:
            return _normal(found[-1])
    return ""


def _normal(quant: str) -> str:
    return _OTHER_NAMES.get(quant.upper(), quant.upper())


def _groups(repository: HubRepository) -> Iterator[ModelFiles]:
    """The GGUF files, with the parts of a model together."""
    split: dict[tuple[str, str], list[HubFile]] = {}
    for file in sorted(repository.files, key=lambda f: f.path):
        if not file.path.lower().endswith(_SUFFIX):
            continue
        match = _PART.fullmatch(file.path)
        if match:
            split.setdefault((match["stem"], match["count"]), []).append(file)
        else:
            stem = file.name[: -len(_SUFFIX)]
            yield ModelFiles(quant_of(file.path), stem, (file,))
    for (stem, _), files in split.items():
        yield ModelFiles(quant_of(stem), stem.rpartition("/")[2], tuple(files))


def _choose(repository: HubRepository, models: Sequence[ModelFiles], tag: str) -> ModelFiles:
    if tag == DEFAULT_TAG:
        return min(models, key=lambda group: _rank(group, DEFAULT_ORDER))
    for matches in (_is_named, _is_quant, _is_mix, _ends_so):
        found = [group for group in models if matches(group, tag)]
        if found:
            return min(found, key=lambda group: _rank(group, DEFAULT_ORDER))
    known = sorted({group.quant or group.stem for group in models})
    raise PullFailed(
        f"pull model manifest: file does not exist: {repository.id} has no {tag}; "
        f"it has {', '.join(known)}"
    )


def _is_named(group: ModelFiles, tag: str) -> bool:
    name = tag.lower()
    return name.removesuffix(_SUFFIX) == group.stem.lower() or any(
        name in (file.name.lower(), file.name.lower().removesuffix(_SUFFIX)) for file in group.files
    )


def _is_quant(group: ModelFiles, tag: str) -> bool:
    return group.quant == _normal(tag)


def _is_mix(group: ModelFiles, tag: str) -> bool:
    """Whether it is one publisher's mix of that name, `UD-Q4_K_XL` for `Q4_K_XL`."""
    return group.quant == f"UD-{_normal(tag)}"


def _ends_so(group: ModelFiles, tag: str) -> bool:
    """Whether the name ends in the tag, as `model.i1-Q4_K_M` does in `i1-Q4_K_M`."""
    head, found, tail = group.stem.lower().rpartition(tag.lower())
    return bool(found) and not tail and head[-1:] in ("-", ".", "_")


def _require_whole(model: ModelFiles) -> None:
    match = _PART.fullmatch(model.files[0].path)
    if not match:
        return
    numbers = {int(part["number"]) for f in model.files if (part := _PART.fullmatch(f.path))}
    missing = [str(i) for i in range(1, int(match["count"]) + 1) if i not in numbers]
    if missing:
        raise PullFailed(
            f"pull model manifest: of the {int(match['count'])} parts of {model.stem} these are "
            f"missing in the repository: {', '.join(missing)}; choose another quantisation"
        )


def _projector(model: ModelFiles, projectors: Sequence[ModelFiles]) -> HubFile | None:
    """The projector beside the model if there is one, of the best precision."""
    folder = model.files[0].path.rpartition("/")[0]
    whole = [group for group in projectors if group != model and len(group.files) == 1]
    beside = [group for group in whole if group.files[0].path.rpartition("/")[0] == folder]
    found = sorted(beside or whole, key=lambda group: _rank(group, PROJECTOR_ORDER))
    return found[0].files[0] if found else None


def _best_of_each_mark(repository: str, drafters: Iterable[ModelFiles]) -> Iterator[ModelFiles]:
    whole = [group for group in drafters if len(group.files) == 1]
    for mark in DRAFTER_MARKS:
        found = [group for group in whole if find_mark(group.stem, repository) == mark]
        if found:
            yield min(found, key=lambda group: _rank(group, DRAFTER_ORDER))


def _rank(group: ModelFiles, order: Sequence[str]) -> tuple[int, int, int, str]:
    """What is chosen first: by the order of quantisations, then the plainest path."""
    place = order.index(group.quant) if group.quant in order else len(order)
    path = group.files[0].path
    return place, path.count("/"), len(path), path
