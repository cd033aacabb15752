"""What the benchmarks of image understanding share: images, prompt protocols, and numbers that are ratios of counts."""
