"""How does the benchmark fail? With one sentence for the person who started it."""


class BenchFailed(Exception):
    """The benchmark cannot continue; the text says why, and what to do."""
