"""The OpenAI dialect: /v1/chat/completions and its kin (CONTRACT 2)."""
