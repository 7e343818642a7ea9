"""Datasets: formats, files, the card, the hub."""
