"""From a raw sample to a clean problem, or a reason why there is none."""
