"""Rendering of prompts in a process of its own, because a template is a program of strangers."""
