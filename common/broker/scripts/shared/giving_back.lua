-- The holder gives jobs back without counting an attempt: ids and leases of jobs from ARGV[2] on.
-- Returns for each job {queued | fenced}
local function give_back(worker)
  local replies = {}
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
end
