"""The one package that speaks to Redis: keys, connections, and one Lua script for each transition of a job's life."""
