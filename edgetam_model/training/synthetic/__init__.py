"""Synthetic clips with exact masks, made in batches on the CPU or a GPU."""
