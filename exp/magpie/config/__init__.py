"""The files of configs/, loaded and type-checked; model presets."""
