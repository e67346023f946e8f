"""What it takes to train: synthetic clips, readers of annotated data, and the windows cut from both."""
