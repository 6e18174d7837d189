"""GGUF files: what they contain, and what they cost in memory."""
