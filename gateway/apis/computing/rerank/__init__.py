"""Rerank in Jina's and Cohere's shape, score in vLLM's."""
