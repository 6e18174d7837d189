"""Outrider as a service: the texts of its units, and what is installed where."""
