-- The holder gives jobs back (drain, preemption, broken engine), without counting an attempt; with them all that was
-- handed to it and not yet claimed.
-- ARGV: worker, then id and lease of each job
-- Returns for each job {queued | fenced}
local worker, replies = ARGV[1], {}
empty_inbox(worker, 32)
for i = 2, #ARGV, 2 do
  if redis.call('HGET', job_key(ARGV[i]), 'lease') == ARGV[i + 1] then
    requeue(ARGV[i], 0, 0, worker)
    replies[#replies + 1] = 'queued'
  else
    replies[#replies + 1] = 'fenced'
  end
end
return replies
