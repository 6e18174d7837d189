"""Pure text: messages become the prompt of a model."""
