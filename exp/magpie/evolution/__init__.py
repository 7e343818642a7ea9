"""Harder problems out of problems: rewritten by a model, kept only if votes measure them harder."""
