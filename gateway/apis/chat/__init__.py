"""OpenAI's chat completions, and the stored ones."""
