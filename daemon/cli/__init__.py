"""The `outrider` command; `entry` is its entry point."""
