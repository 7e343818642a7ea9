"""A job's stages, each run as a process, and the file that records the job's progress."""
