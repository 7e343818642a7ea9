"""Properties of a single generated text: chain of thought, loops, language."""
