"""Our sampling inside vLLM's own processes: what is imported there, and nothing else."""
