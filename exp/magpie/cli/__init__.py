"""Flags shared by the programs."""
