"""LoRA adapters beside one model in memory: read from their folders, computed unmerged in the running batch."""
