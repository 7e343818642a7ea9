"""What this machine can run; needs nothing but the standard library until it looks at models."""
