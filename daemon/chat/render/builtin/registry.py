"""Which renderers are built in? (CONTRACT 8.5)"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..renderer import Renderer

RENDERERS: Mapping[str, Callable[[], Renderer]] = {}
