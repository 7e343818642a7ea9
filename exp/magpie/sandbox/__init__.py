"""A sandbox for programs written by a model."""
