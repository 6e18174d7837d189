"""Which renderer words the conversations of a model?"""

from __future__ import annotations

from ...errors import TemplateFailed
from ..format import GO, ChatFormat, UnreadableTemplate
from .builtin.registry import RENDERERS
from .go_template import GoTemplate
from .jinja import JinjaTemplate
from .plain import PlainTemplate
from .renderer import Renderer


def open_renderer(
    chat_format: ChatFormat, *, model_template: str | None, bos: str, eos: str
) -> Renderer:
    """The renderer of a chat format, in the order of CONTRACT 8.1.

    `model_template` is the Jinja template in the GGUF file, for a format without one of its own.
    `bos` and `eos` are the texts of these tokens. Raises TemplateFailed if the renderer is unknown
    or the template cannot be compiled.
    """
    if chat_format.renderer:
        return _built_in(chat_format.renderer)
    if chat_format.template and chat_format.language == GO:
        return _go_template(chat_format.template)
    template = chat_format.template or model_template
    return JinjaTemplate(template, bos=bos, eos=eos) if template else PlainTemplate()


def _built_in(name: str) -> Renderer:
    make = RENDERERS.get(name)
    if make is None:
        raise TemplateFailed(f'unknown renderer "{name}"')
    return make()


def _go_template(source: str) -> Renderer:
    try:
        return GoTemplate(source)
    except UnreadableTemplate as error:
        raise TemplateFailed(f"the chat template cannot be read: {error}") from error
