"""A model asked: the session, problems, responses, steering, preflight."""
