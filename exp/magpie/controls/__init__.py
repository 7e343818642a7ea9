"""Planted problems with known answers, and what they show about the others."""
