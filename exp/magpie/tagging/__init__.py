"""Labels on problems, and a model's verdicts on a problem or on two answers."""
