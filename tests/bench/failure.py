"""How the benchmark says what went wrong: one sentence, and what to do."""


class BenchFailed(Exception):
    """The benchmark cannot go on; the text is for the person who started it."""
