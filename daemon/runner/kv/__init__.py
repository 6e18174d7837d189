"""The KV cache: which sequence has which cells, and which prefixes need not be computed again."""
