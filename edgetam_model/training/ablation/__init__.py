"""What a part of the model or of the training is worth: the same training with and without it, in a table."""
