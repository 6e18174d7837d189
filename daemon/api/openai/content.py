"""What does the content of an OpenAI message say? (CONTRACT 2.2)"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping

from ...errors import BadRequest, Unsupported
from ..request import refuse_images
from .wire import json_type

DATA_URL = re.compile(r"data:(?:image/(?:jpeg|jpg|png|webp))?;base64,")
INVALID_PART = "invalid message format"


def read_texts(content: object, *, is_optional: bool) -> tuple[str, ...]:
    """The text of a string, or the texts of an array of parts.

    Raises BadRequest for a malformed content, and Unsupported for well-formed images and audio.
    """
    if isinstance(content, str):
        return (content,)
    if isinstance(content, list):
        return tuple(_texts_of(content)) or ("",)
    if content is None and is_optional:
        return ("",)
    raise BadRequest(f"invalid message content type: {json_type(content)}")


def _texts_of(parts: list[object]) -> Iterator[str]:
    for part in parts:
        if not isinstance(part, Mapping):
            raise BadRequest(INVALID_PART)
        match part.get("type"):
            case "text" if isinstance(text := part.get("text"), str):
                yield text
            case "image_url":
                _refuse_image(part.get("image_url"))
            case "input_audio":
                _refuse_audio(part.get("input_audio"))
            case _:
                raise BadRequest(INVALID_PART)


def _refuse_image(image: object) -> None:
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise BadRequest("invalid image input")
    if url.startswith(("http://", "https://")):
        raise BadRequest(
            "image URLs are not currently supported, please use base64 encoded data instead"
        )
    data_url = DATA_URL.match(url)
    if not data_url or _base64_error(url[data_url.end() :]):
        raise BadRequest("invalid image input")
    refuse_images(True)


def _refuse_audio(audio: object) -> None:
    if not isinstance(audio, Mapping):
        raise BadRequest("invalid input_audio format")
    data = audio.get("data")
    if not isinstance(data, str) or not data:
        raise BadRequest("invalid input_audio format: missing data")
    if error := _base64_error(data):
        raise BadRequest(f"invalid input_audio base64 data: {error}")
    raise Unsupported("audio is not supported yet; leave it out")


def _base64_error(data: str) -> str:
    """Why the text is no base64; "" if it is."""
    try:
        b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        return str(error)
    return ""
