"""Data sets: formats, files, the card, the hub."""
