"""CVAT's tasks in field kits: taken along, worked on where there is no network, brought back."""
