"""Ollama's native API, because much software on one's own machine speaks it, over the same jobs."""
