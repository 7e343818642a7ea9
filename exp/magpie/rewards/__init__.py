"""Reward models, local or behind a server."""
