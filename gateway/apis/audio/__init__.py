"""OpenAI's transcriptions and translations of recordings."""
