-- with keys, tiers, waiting, routing, requeue, tenants, settle
-- The holder gives back jobs it was asked for, without counting an attempt: they go on later, from their next token.
-- argv: worker
-- each: id lease
-- Returns for each job {queued | fenced}

-- The slot goes to the job that it was asked for, if that one waits still and this worker takes jobs.
local function hand_slot(successor)
  local job = redis.call('HMGET', job_key(successor), 'state', 'where', 'tier')
  local waits = job[1] == 'queued' and job[2] and not inbox_owner(job[2])
  if not waits or redis.call('HGET', worker_key(worker), 'state') ~= 'ready' then return end
  leave_queue(successor, true)
  if LOWER[job[3]] then redis.call('HSET', job_key(successor), 'guaranteed', 1) end
  hand_to(successor, worker)
end

-- So far its tenant was charged an estimate.
local function charge_so_far(id)
  local job = redis.call('HMGET', job_key(id), 'tier', 'tenant', 'weight', 'charged')
  local prompt, completion = used_so_far(id)
  local owed = prompt + completion - tonumber(job[4] or 0)
  if owed <= 0 then return end
  charge(job[1], job[2], tonumber(job[3]), owed)
  redis.call('HSET', job_key(id), 'charged', prompt + completion)
end

local function give_way(id, lease, successor)
  if not holds(id, lease) then return 'fenced' end
  redis.call('HINCRBY', job_key(id), 'gave_way', 1)
  hand_slot(successor)
  requeue(id, 0, 0, worker, true)
  if redis.call('HGET', job_key(id), 'state') == 'queued' then charge_so_far(id) end
  return 'queued'
end

local replies = {}
for id, lease in each() do
  local successor = redis.call('HGET', job_key(id), 'successor')
  replies[#replies + 1] = successor and give_way(id, lease, successor) or give_back(worker, id, lease)
end
return replies
