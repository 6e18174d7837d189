"""Loaded models as the front sees them: which, in which process, and how they are loaded."""
