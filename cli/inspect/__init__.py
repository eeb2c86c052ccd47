"""Commands that look at a cluster."""
