"""Resumable runs: the .part log, .run.json, shards, passes over a file, the folder of a job."""
