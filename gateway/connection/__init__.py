"""The client's socket: the server's protocol, the SSE response, the direct write, and noticing that a client left."""
