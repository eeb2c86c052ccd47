"""Files that a checkpoint with code of its own brings along."""
