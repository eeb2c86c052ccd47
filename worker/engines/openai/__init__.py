"""Any OpenAI server as an engine: asked over HTTP, its answers carried as if they were made here."""
