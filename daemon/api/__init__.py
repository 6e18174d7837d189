"""What comes over HTTP: text and vectors for all dialects, and a folder for each dialect."""
