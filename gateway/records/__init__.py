"""The records kept for a tenant: stored answers, files and batches."""
