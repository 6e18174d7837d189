"""Where models come from and go to: packages, registries; `pull` chooses by the name's host."""
