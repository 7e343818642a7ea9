"""A diagnosis of this machine; needs only the standard library until it looks at models."""
