"""The `outrider` command: `entry` is where it begins."""
