"""Benchmarks: their data, prompts, scorers and published numbers."""
