"""How many CPU threads decode, beside whatever else the machine does."""
