"""Ollama's dialect: reads its requests, words its answers and errors."""
