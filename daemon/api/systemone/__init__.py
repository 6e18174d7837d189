"""Ollama's decision API: /v1/systemone (CONTRACT 2.8)."""
