"""Rules and small numerical parts that judge outputs; no network of their own."""
