"""Authentication of callers: API keys, from the settings and from Redis, and what their owners may see."""
