"""Labels on problems, and a model's opinion of a problem or of two answers."""
