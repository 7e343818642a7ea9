"""A job's stages, each run as a process, and the file that tells how far the job is."""
