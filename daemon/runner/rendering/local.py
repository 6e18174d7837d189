"""How is a prompt rendered in this process, without any bound of time?"""

from __future__ import annotations

from functools import lru_cache

from ...chat.conversation import Conversation
from ...chat.format import ChatFormat
from ...chat.render.registry import open_renderer
from ...chat.render.renderer import Renderer
from .messages import RenderRequest

RENDERERS_KEPT = 16  # compiled templates: the model's own and those of requests


class LocalRenderer:
    """A `Render` that keeps the templates that it has compiled."""

    def __init__(self) -> None:
        self._open = lru_cache(RENDERERS_KEPT)(_open)

    def __call__(self, request: RenderRequest, /) -> str:
        renderer = self._open(request.format, request.bos, request.eos)
        if isinstance(request.prompt, Conversation):
            return renderer.render(request.prompt)
        return renderer.render_infill(request.prompt)


def _open(chat_format: ChatFormat, bos: str, eos: str) -> Renderer:
    return open_renderer(chat_format, model_template=None, bos=bos, eos=eos)
