"""Pure text: what the model wrote -> thinking and content."""
