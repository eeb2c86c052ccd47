"""The loading of a model, from its name to weights on a device, and what this machine can do."""
