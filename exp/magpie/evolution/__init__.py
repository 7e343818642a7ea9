"""Harder problems from problems: rewritten by a model, kept only if votes show them to be harder."""
