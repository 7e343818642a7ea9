"""Properties of a generated text alone: its chain of thought, loops, its language."""
