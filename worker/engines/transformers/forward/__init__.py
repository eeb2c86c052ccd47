"""The second way to generate: plain forward passes, a sequence at a time, for what the batching cannot run."""
