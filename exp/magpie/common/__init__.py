"""Nothing of mathematics or models: messages and errors, atomic files, progress, seeds."""
