"""Computing models of transformers: vectors, scores and classes, in one forward pass."""
