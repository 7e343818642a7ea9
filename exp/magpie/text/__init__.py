"""What a generated text alone tells: its chain of thought, loops, its language."""
