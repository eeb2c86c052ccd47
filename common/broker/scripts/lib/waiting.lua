-- with keys, chunks, tenants
-- Jobs that wait: in which stream each does, and how many there are.
local function count_waiting(tenant, jobs, bytes)
  for field, by in pairs({jobs = jobs, bytes = bytes, ['jobs:' .. tenant] = jobs, ['bytes:' .. tenant] = bytes}) do
    if redis.call('HINCRBY', WAITING_KEY, field, by) <= 0 then redis.call('HDEL', WAITING_KEY, field) end
  end
end

local function drop_if_empty(stream)
  if redis.call('XLEN', stream) == 0 then redis.call('DEL', stream) return true end
  return false
end

-- Returns the name of the entry.
local function put_in(id, where) return redis.call('XADD', stream_key(where), '*', 'job', id) end

local function wait_in(id, where)
  local entry = put_in(id, where)
  redis.call('HSET', job_key(id), 'where', where, 'entry', entry)
  return entry
end

-- Inside a tenant the earliest deadline goes first, then the oldest: a sorted set beside each backlog keeps that order,
-- and this is a job's name in it.
local function turn_of(id, entry)
  local ms, seq = string.match(entry, '^(%d+)-(%d+)$')
  return string.format('%s-%06d %s', ms, tonumber(seq), id)
end

-- A job is not in its backlog any more, or in the stream of those that have begun.
local function uncount(id, where, entry, tenant, tier, bytes)
  count_waiting(tenant, -1, -tonumber(bytes))
  local backlog = is_backlog(where)
  if backlog then redis.call('ZREM', order_key(tier, tenant), turn_of(id, entry)) end
  if drop_if_empty(stream_key(where)) and backlog then leave_tenants(tier, tenant) end
end

-- Undo wait_in's bookkeeping for a job whose stream entry is gone (or is removed here with `remove`).
local function leave_queue(id, remove)
  local job = redis.call('HMGET', job_key(id), 'where', 'entry', 'tenant', 'tier', 'bytes')
  local where = job[1]
  if not where or where == '' then return end
  if remove then redis.call('XDEL', stream_key(where), job[2]) end
  redis.call('HDEL', job_key(id), 'where', 'entry')
  local worker = inbox_owner(where)
  if worker then
    redis.call('ZINCRBY', LOAD_KEY, -1, worker)
  else
    uncount(id, unpack(job, 1, 5))
  end
end

-- Jobs on their last try: their workers died again and again before they got further. A worker has one of them at a time
-- until it got further, so that the one that kills workers cannot take the others with it.
local function holds_suspect(worker)
  local id = redis.call('HGET', worker_key(worker), 'suspect')
  if not id then return false end
  local job = redis.call('HMGET', job_key(id), 'worker', 'state', 'where')
  return job[3] == inbox_name(worker) or job[1] == worker and job[2] == 'running' and not made_progress(id)
end

-- The worker is the one that has the suspect now.
local function entrust(id, worker) redis.call('HSET', worker_key(worker), 'suspect', id) end
