"""From a model's name to its weights on a device, and what this machine can do."""
