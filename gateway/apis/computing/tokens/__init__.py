"""Tokenize and detokenize in vLLM's shape."""
