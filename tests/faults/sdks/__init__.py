"""The SDKs of the APIs at real processes, while one of them dies."""
