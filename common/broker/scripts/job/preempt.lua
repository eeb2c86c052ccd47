-- with requeue
-- The holder gives back jobs it was asked for, without counting an attempt: they go on later, from their next token.
-- ARGV: worker, then id and lease of each job
-- Returns for each job {queued | fenced}
local worker, replies = ARGV[1], {}
for i = 2, #ARGV, 2 do replies[#replies + 1] = give_back(worker, ARGV[i], ARGV[i + 1]) end
return replies
