"""How do the OLMo 3 models write tool calls? (CONTRACT 8.8)"""

from __future__ import annotations

from .marked_calls import MarkedBlock, MarkedFormat, marked_family
from .tool_calls import split_python_calls

_FORMAT = MarkedFormat((MarkedBlock("<function_calls>", "</function_calls>", split_python_calls),))
OLMO3_FAMILY = marked_family(_FORMAT)
OLMO3_THINK_FAMILY = marked_family(_FORMAT, thinks=True)
