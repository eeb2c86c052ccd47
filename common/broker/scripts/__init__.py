"""The scripts (Lua) that every transition of a job, a batch, an API key's allowance or a record is, and how they are
called. `job/`, `worker/`, `batch/`, `account/` and `record/` hold one script a file, `lib/` what several of them share.
"""
