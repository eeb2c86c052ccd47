-- with requeue
-- The holder gives jobs back (drain, broken engine), without counting an attempt; with them all that was handed to it and
-- not yet claimed.
-- argv: worker
-- each: id lease
-- Returns for each job {queued | fenced}
local replies = {}
empty_inbox(worker, 32)
for id, lease in each() do replies[#replies + 1] = give_back(worker, id, lease) end
return replies
