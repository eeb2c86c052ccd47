"""Tenants as Redis knows them: API keys, limits, usage."""
