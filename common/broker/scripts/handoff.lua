-- with giving_back
-- The holder gives jobs back (drain, broken engine), without counting an attempt; with them all that was handed to it and
-- not yet claimed.
-- ARGV: worker, then id and lease of each job
-- Returns for each job {queued | fenced}
empty_inbox(ARGV[1], 32)
return give_back(ARGV[1])
