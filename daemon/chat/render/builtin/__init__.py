"""Built-in renderers: they word conversations without a template (CONTRACT 8.5)."""
