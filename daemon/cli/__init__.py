"""The `outrider` command."""

from .entry import exit_code, main

__all__ = ["exit_code", "main"]
