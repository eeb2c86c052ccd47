"""LoRA adapters of any engine: read from their folders, and the names under which they share one model."""
