-- with keys, tiers
-- What a step must know of a running job, for all jobs of a worker in one hash: its lease, its readers, and what the
-- worker is asked for.

-- The gateways a job's frames go to: the one that took its stream up last, and the one before if that may still read.
local function readers(gateway, earlier) return earlier and gateway .. ',' .. earlier or gateway end

-- Written anew from the job by whatever changes one of its parts.
local function fence(id)
  local job = redis.call('HMGET', job_key(id), 'state', 'worker', 'lease', 'gateway', 'earlier', 'cancel', 'preempt')
  if job[1] ~= 'running' then return end
  local wanted = job[6] and 'cancel' or job[7] and 'preempt' or ''
  redis.call('HSET', fences_key(job[2]), id, job[3] .. ' ' .. readers(job[4], job[5]) .. ' ' .. wanted)
end

-- Returns lease, readers and what is wanted ('' nothing), or nothing for a job the worker does not hold.
local function read_fence(text)
  if text then return string.match(text, '^(%S+) (%S*) (%a*)$') end
end

-- The worker does not run this job any more.
local function release(id, worker)
  if worker and worker ~= '' and redis.call('HDEL', fences_key(worker), id) == 1 then
    redis.call('ZINCRBY', LOAD_KEY, -1, worker)
    for tier in pairs(LOWER) do redis.call('ZREM', running_key(tier), id) end
  end
end
