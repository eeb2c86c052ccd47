"""The way of a model's files from where it is published to this machine's disk, and what lies there."""
