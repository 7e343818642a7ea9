"""The domain of a problem by its embedding."""
