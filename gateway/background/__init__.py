"""The background process: batches, webhooks and upkeep over arq."""
