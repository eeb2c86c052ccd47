"""The arena, batches and what else has a view of its own, clicked through in the browser."""
