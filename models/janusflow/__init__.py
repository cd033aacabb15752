"""The reference JanusFlow, at any size from one configuration."""
