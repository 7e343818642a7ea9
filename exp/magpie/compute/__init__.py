"""Heavy local work: executors (here or on Ray), batching, memory-mapped arrays, embeddings, nearest neighbours."""
