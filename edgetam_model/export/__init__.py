"""Models for other runtimes, and the host that drives them, which is free of torch."""
