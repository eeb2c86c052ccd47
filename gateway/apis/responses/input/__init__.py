"""A turn's input and tools in the terms of a chat: items of every kind, namespaces, sealed thoughts."""
