"""LoRA adapters beside a model of transformers, computed unmerged in the running batch."""
