"""The engines, which make token ids out of token ids: one folder per engine, and the contract they share."""
