"""The KV cache: who holds which cells, and which prefixes need not be computed again."""
