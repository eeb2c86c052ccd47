"""The API of operators and tools: models, usage, cancelling a request."""
