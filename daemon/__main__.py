"""`python -m outrider.daemon` is the `outrider` command."""

from .cli.entry import main

if __name__ == "__main__":
    main()
