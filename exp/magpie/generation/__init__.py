"""Generation with a model: the session, problems, responses, steering, preflight."""
