"""Ollama's own dialect: reads its requests, words its answers and errors."""
