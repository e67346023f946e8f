"""The Nuclio function of CVAT's AI tools that segments what is clicked or boxed."""
