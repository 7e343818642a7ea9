"""Chosen and rejected responses."""
