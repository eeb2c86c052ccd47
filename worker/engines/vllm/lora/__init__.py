"""LoRA adapters beside a model in vLLM."""
