"""The drafters, one kind per file."""
