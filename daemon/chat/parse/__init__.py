"""Pure text: the output of a model is split into thinking, tool calls and content."""
