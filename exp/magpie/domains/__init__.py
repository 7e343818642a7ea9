"""The domain of a problem, from its embedding."""
