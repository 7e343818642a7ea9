"""Planted problems whose answer is known, and what they tell of the others."""
