"""The Redis of a chaos site: its servers, what makes Sentinels of them, and what a power failure does to one."""
