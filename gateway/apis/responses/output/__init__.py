"""The items of a response's output as they grow: messages, thoughts, calls."""
