"""Training: from a recipe's random weights to a finished model."""
