"""Tensor parallel: one model over several processes (ranks), of which the first is the worker and the others step."""

# Read in this order: `settings` (what torchrun says) → `split` (what can be split, known before any weights are read) →
# `messages` (what rank 0 tells the others) → `shard` (one rank's part of the weights) → `leader` (rank 0's side) →
# `follower` (the other ranks').
