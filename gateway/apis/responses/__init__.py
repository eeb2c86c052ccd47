"""OpenAI's Responses API, and the responses that are stored."""
