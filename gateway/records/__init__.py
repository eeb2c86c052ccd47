"""What is kept for a tenant: stored answers, files and batches."""
