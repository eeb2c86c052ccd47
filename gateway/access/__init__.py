"""Who asks: API keys, from the settings and from Redis, and what they may see."""
