"""`/v1/keys`: API keys, made, listed, changed and revoked by administrators."""
