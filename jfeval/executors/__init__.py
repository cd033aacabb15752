"""Ways of carrying a plan out: in this process, or on many machines."""
