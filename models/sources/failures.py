"""How does a request to another host fail, and how is that worded?"""

from collections.abc import Mapping
from typing import Final

_BODY_CHARACTERS: Final = 300  # of a refusal that are shown
_ADVICE: Final[Mapping[int, str]] = {
    401: "the model is private or does not exist: check its name, and that your key is registered",
    403: "your account or address may not read it: check its name, and that your key is registered",
    404: "check the name and the tag",
    412: "a newer version is needed",
    429: "too many requests were made: try again later",
}


class HttpRefused(Exception):
    """The host answered with an error status; `body` is the text of its answer."""

    def __init__(
        self,
        status: int,
        host: str,
        body: str = "",
        *,
        retry_after_s: float | None = None,
        challenge: str = "",
    ) -> None:
        super().__init__(f"{host} answered {status}{f': {body}' if body else ''}")
        self.status = status
        self.host = host
        self.body = body
        self.retry_after_s = retry_after_s
        self.challenge = challenge

    @property
    def advice(self) -> str:
        """What a user can do about it; empty if nothing is known."""
        if self.status == 429 and self.retry_after_s:
            return f"too many requests were made: try again in {self.retry_after_s:.0f} s"
        if self.status >= 500:
            return f"{self.host} has a fault of its own: try again later"
        return _ADVICE.get(self.status, "")

    @property
    def advised(self) -> str:
        """The refusal and what to do about it."""
        return f"{self}; {self.advice}" if self.advice else str(self)


class Unreachable(Exception):
    """There was no complete answer; `is_final` if trying again cannot help."""

    def __init__(
        self, host: str, reason: str, *, is_final: bool = False, is_insecure: bool = False
    ) -> None:
        super().__init__(f"{host} cannot be reached: {reason}")
        self.host = host
        self.is_final = is_final or is_insecure
        self.is_insecure = is_insecure  # plain HTTP, which was not allowed

    @property
    def advised(self) -> str:
        """The failure and what to do about it."""
        return str(self) if self.is_final else f"{self}; check the network, then try again"


def word_refusal(refused: HttpRefused) -> str:
    """The texts that clients match on, with advice behind them (CONTRACT 6.4)."""
    if refused.status == 404:
        return "file does not exist"
    text = f"{refused.status}: {refused.body}"
    if refused.status == 401:
        text = "unauthorized: access denied"
    return f"{text}; {refused.advice}" if refused.advice else text


def word_unreachable(error: Unreachable) -> str:
    """The failure and what to do about it (CONTRACT 1.16)."""
    if error.is_insecure:
        return "insecure protocol http; allow plain HTTP with --insecure (`insecure: true`)"
    return error.advised


def clip(text: str) -> str:
    """The text of a refusal on one line, without the rest of a long page."""
    line = " ".join(text.split())
    return line if len(line) <= _BODY_CHARACTERS else f"{line[:_BODY_CHARACTERS]}..."
