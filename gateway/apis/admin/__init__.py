"""What operators and tools ask for: models, usage, cancelling a request."""
