"""Who reads ahead: one file for each kind of drafter."""
