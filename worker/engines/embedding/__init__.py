"""Embeddings and scores: forward passes that generate nothing."""
