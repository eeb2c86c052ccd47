"""OpenAI's request and response shapes, free of logic."""
