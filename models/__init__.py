"""Models: the reference JanusFlow, its trainer, the embedded model, and adapters for other systems."""
