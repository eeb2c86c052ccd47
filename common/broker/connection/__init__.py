"""Connections to Redis: its URL, its wire protocol, pipelined calls, pub/sub, clusters, retries."""
