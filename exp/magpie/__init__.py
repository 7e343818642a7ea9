"""What the stage programs share."""
