"""The Lua scripts, one for each transition of a job, a batch, an API key's allowance or a record, and their sources."""

# `job/`, `worker/`, `batch/`, `account/` and `record/` hold one script a file, `lib/` what several of them share.
