"""A tenant's files: their records, their bytes and their settings."""
