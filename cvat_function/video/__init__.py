"""Whole stretches of a CVAT task at once: what people drew there, tracked here, sent back as new tracks."""
