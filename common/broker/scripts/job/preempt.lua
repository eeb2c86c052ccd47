-- with requeue
-- The holder gives back jobs it was asked for, without counting an attempt: they go on later, from their next token.
-- argv: worker
-- each: id lease
-- Returns for each job {queued | fenced}
local replies = {}
for id, lease in each() do replies[#replies + 1] = give_back(worker, id, lease) end
return replies
