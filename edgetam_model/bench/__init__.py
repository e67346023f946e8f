"""How fast this machine computes the model, against a reference run in turn with it."""
