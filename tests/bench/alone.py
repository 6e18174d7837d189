"""Which model is measured with n-gram lookup alone, and with which prompt?

So small a model does not follow an instruction to edit a file. It does continue a file that stands
in the prompt, if the prompt announces its repetition.
"""

from __future__ import annotations

from pathlib import Path

from outrider.models.name import Name
from outrider.models.scratch import scratch
from outrider.models.store import Store
from weights import import_gguf

from .moe import dense_model
from .quantisation import BF16, quantise

ALONE = "smollm2-alone:135m"
FILE = """\
class Account:
    def __init__(self, owner: str, balance: int = 0) -> None:
        self.owner = owner
        self.balance = balance

    def deposit(self, amount: int) -> None:
        if amount <= 0:
            raise ValueError("the amount must be positive")
        self.balance += amount

    def withdraw(self, amount: int) -> None:
        if amount <= 0:
            raise ValueError("the amount must be positive")
        self.balance -= amount
"""
COPIED = f"""\
{{number}}.
<file name="old">
{FILE}</file>

The file with owner renamed to holder:
<file name="new">
"""


def ensure_alone(store_root: Path) -> str:
    """The name of the model in the store, made now if need be: 270 MB. Raises BenchFailed.

    BF16, so that several rows cost little more than one.
    """
    if Store(store_root).find(Name.parse(ALONE)):
        return ALONE
    with scratch(store_root) as room:
        target = quantise(dense_model(store_root), room.path / "alone.gguf", BF16)
        import_gguf(store_root, ALONE, target)
    return ALONE
