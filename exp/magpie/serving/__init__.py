"""vLLM processes: parallelism, the server, replicas."""
