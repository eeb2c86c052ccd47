"""The agreement of gateway and worker: jobs, chunks, errors, settings, and `common.broker`, which alone speaks to
Redis."""
