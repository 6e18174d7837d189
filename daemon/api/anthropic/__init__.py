"""The Anthropic dialect: /v1/messages (CONTRACT 3)."""
