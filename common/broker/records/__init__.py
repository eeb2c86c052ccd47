"""Records of a tenant that are kept for a while: stored answers, pending ones, batches."""
