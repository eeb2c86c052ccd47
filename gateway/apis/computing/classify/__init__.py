"""Classes of texts in vLLM's shape, classes of their tokens, and filled gaps."""
