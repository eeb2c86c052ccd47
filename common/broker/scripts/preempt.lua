-- The holder gives back jobs it was asked for, without counting an attempt: they go on later, from their next token.
-- ARGV: worker, then id and lease of each job
-- Returns for each job {queued | fenced}
local worker, replies = ARGV[1], {}
for i = 2, #ARGV, 2 do
  local job = redis.call('HMGET', job_key(ARGV[i]), 'lease', 'state')
  if job[1] == ARGV[i + 1] and job[2] == 'running' then
    requeue(ARGV[i], 0, 0, worker)
    replies[#replies + 1] = 'queued'
  else
    replies[#replies + 1] = 'fenced'
  end
end
return replies
