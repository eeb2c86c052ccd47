-- with requeue
-- The holder gives jobs back (drain, broken engine), without counting an attempt; with them all that was handed to it and
-- not yet claimed.
-- ARGV: worker, then id and lease of each job
-- Returns for each job {queued | fenced}
local worker, replies = ARGV[1], {}
empty_inbox(worker, 32)
for i = 2, #ARGV, 2 do replies[#replies + 1] = give_back(worker, ARGV[i], ARGV[i + 1]) end
return replies
