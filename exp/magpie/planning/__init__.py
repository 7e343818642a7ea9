"""The cost of a job, before it is run."""
