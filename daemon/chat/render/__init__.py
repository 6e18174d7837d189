"""Pure text: messages -> the prompt that a model reads."""
