"""The client's socket: the server's protocol, the SSE response, the outlet, and noticing that a client left."""
