-- with keys, tiers
-- What a step must know of a running job, for all jobs of a worker in one hash: its lease, its readers, and what the
-- worker is asked for.

-- The gateways a job's frames go to: the one that took its stream up last, and the one before if that may still read.
local function readers(gateway, earlier) return earlier and gateway .. ',' .. earlier or gateway end

local function write_fence(id, worker, lease, gateway, earlier, cancel, preempt)
  local wanted = cancel and 'cancel' or preempt and 'preempt' or ''
  redis.call('HSET', fences_key(worker), id, lease .. ' ' .. readers(gateway, earlier) .. ' ' .. wanted)
end

-- Written anew from the job by whatever changes one of its parts.
local function fence(id)
  local job = redis.call('HMGET', job_key(id), 'state', 'worker', 'lease', 'gateway', 'earlier', 'cancel', 'preempt')
  if job[1] == 'running' then write_fence(id, unpack(job, 2, 7)) end
end

-- Returns lease, readers and what is wanted ('' nothing), or nothing for a job the worker does not hold.
local function read_fence(text)
  if text then return string.match(text, '^(%S+) (%S*) (%a*)$') end
end

-- The fence of a job that its own hash gives to this worker, written anew: somebody has deleted it. Whatever takes a job
-- from its worker changes the hash as well. `lease`: the one the worker has, if it says so.
local function mended_fence(id, worker, lease)
  local job = redis.call('HMGET', job_key(id), 'state', 'worker', 'lease')
  if job[1] ~= 'running' or job[2] ~= worker or (lease and job[3] ~= lease) then return end
  fence(id)
  return redis.call('HGET', fences_key(worker), id)
end

-- The worker does not run this job any more. `tier` is the job's, nil if that is not known.
local function release(id, worker, tier)
  if worker and worker ~= '' and redis.call('HDEL', fences_key(worker), id) == 1 then
    redis.call('ZINCRBY', LOAD_KEY, -1, worker)
    for each in pairs(LOWER) do
      if not tier or tier == each then redis.call('ZREM', running_key(each), id) end
    end
  end
end
