"""Reward models, here or behind a server."""
