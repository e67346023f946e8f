"""The verbs that this adapter adds to the command line."""
