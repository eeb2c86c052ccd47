"""Commands that change a cluster: keys, policies, models."""
