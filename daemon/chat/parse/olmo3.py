"""How do the OLMo 3 models write tool calls? (CONTRACT 8.8)"""

from __future__ import annotations

from .call_blocks import BlockFormat, CallBlock, block_family
from .tool_calls import split_python_calls

_FORMAT = BlockFormat((CallBlock("<function_calls>", "</function_calls>", split_python_calls),))
OLMO3_FAMILY = block_family(_FORMAT)
OLMO3_THINK_FAMILY = block_family(_FORMAT, thinks=True)
