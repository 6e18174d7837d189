"""Pure text, no I/O: a conversation becomes a prompt, output becomes events."""
