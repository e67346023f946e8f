"""The Nuclio function of CVAT's AI tools that follows objects from frame to frame."""
