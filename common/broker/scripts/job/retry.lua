-- with requeue
-- What the holder's engine made for these jobs is lost, the worker itself is well: they go on elsewhere, or here later.
-- `attempts` is what that costs each; its inbox stays.
-- argv: worker attempts:number max_attempts:number
-- each: id lease
-- Returns for each job {queued | fenced}
local replies = {}
for id, lease in each() do replies[#replies + 1] = give_back(worker, id, lease, attempts, max_attempts) end
return replies
