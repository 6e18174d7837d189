"""Models from the front's side: what is on disk, how it is loaded, in which process it runs."""
