"""`GET /v1/cluster`: models, workers, queues and Redis, once or as a stream."""
