"""The model side: jobs in, chunks out."""
