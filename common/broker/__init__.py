"""The only door to Redis: keys, connections, and one Lua script for each transition of a job's life."""
