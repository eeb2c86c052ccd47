-- Shared by every script: put before it when it is loaded. KEYS[1] is the model's prefix "ms:{model}:"; every other key
-- begins with it and so lies in the same cluster slot. All times are this server's, in milliseconds.
local P = KEYS[1]
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TIERS = {'priority', 'default', 'flex', 'batch'}

local function job_key(id) return P .. 'job:' .. id end

-- How long claim and evict must still hold back after the server restarted or failed over (0: not at all). Until then
-- gateways put back what was lost and workers renew leases that only look expired.
local function grace_left(grace_ms)
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local seen = redis.call('HMGET', P .. 'server', 'run_id', 'since')
  local since = tonumber(seen[2] or 0)
  if seen[1] ~= run_id then
    since = seen[1] and NOW or 0
    redis.call('HSET', P .. 'server', 'run_id', run_id, 'since', since)
  end
  return math.max(0, since + grace_ms - NOW)
end

-- ---------------------------------------------------------------------------------------------------------- waiting

local function count_waiting(tenant, jobs, bytes)
  for field, by in pairs({jobs = jobs, bytes = bytes, ['jobs:' .. tenant] = jobs, ['bytes:' .. tenant] = bytes}) do
    if redis.call('HINCRBY', P .. 'waiting', field, by) <= 0 then redis.call('HDEL', P .. 'waiting', field) end
  end
end

-- A tenant that begins to wait starts at the smallest virtual time, so that it is neither punished nor paid for absence.
local function join_tenants(tier, tenant)
  local zset = P .. 'tenants:' .. tier
  if redis.call('ZSCORE', zset, tenant) then return end
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  redis.call('ZADD', zset, first[2] or 0, tenant)
end

local function drop_if_empty(stream)
  if redis.call('XLEN', stream) == 0 then redis.call('DEL', stream) return true end
  return false
end

local function wait_in(id, where)
  local entry = redis.call('XADD', P .. where, '*', 'job', id)
  redis.call('HSET', job_key(id), 'where', where, 'entry', entry)
end

-- Put a job behind the others of its tenant (backlog) or before everyone (resume).
local function enqueue(id, where)
  local job = redis.call('HMGET', job_key(id), 'tenant', 'tier', 'bytes')
  if where ~= 'resume' then
    where = 'backlog:' .. job[2] .. ':' .. job[1]
    join_tenants(job[2], job[1])
  end
  wait_in(id, where)
  count_waiting(job[1], 1, tonumber(job[3]))
end

-- Undo wait_in's bookkeeping for a job whose stream entry is gone (or is removed here with `remove`).
local function leave_queue(id, remove)
  local job = redis.call('HMGET', job_key(id), 'where', 'entry', 'tenant', 'tier', 'bytes')
  local where = job[1]
  if not where or where == '' then return end
  if remove then redis.call('XDEL', P .. where, job[2]) end
  redis.call('HDEL', job_key(id), 'where', 'entry')
  local inbox = string.match(where, '^inbox:(.+)$')
  if inbox then
    redis.call('ZINCRBY', P .. 'load', -1, inbox)
    return
  end
  count_waiting(job[3], -1, -tonumber(job[5]))
  if drop_if_empty(P .. where) and where ~= 'resume' then redis.call('ZREM', P .. 'tenants:' .. job[4], job[3]) end
end

-- ---------------------------------------------------------------------------------------------------------- routing

-- The live, ready worker with a free slot that would be done first: least load / speed. `not_this` is passed over.
local function pick_worker(not_this)
  local loads = redis.call('ZRANGE', P .. 'load', 0, -1, 'WITHSCORES')
  local best, best_cost
  for i = 1, #loads, 2 do
    local worker, load = loads[i], tonumber(loads[i + 1])
    local lease = redis.call('ZSCORE', P .. 'leases', worker)
    if worker ~= not_this and lease and tonumber(lease) > NOW then
      local beat = redis.call('HMGET', P .. 'worker:' .. worker, 'slots', 'speed', 'state')
      if beat[3] == 'ready' and load < tonumber(beat[1]) then
        local cost = (load + 1) / math.max(tonumber(beat[2]), 0.001)
        if not best or cost < best_cost then best, best_cost = worker, cost end
      end
    end
  end
  return best
end

local function hand_to(id, worker)
  wait_in(id, 'inbox:' .. worker)
  redis.call('ZINCRBY', P .. 'load', 1, worker)
end

-- Whether someone of this tier or a higher one waits already: then a free slot is theirs, its worker is about to claim.
local function others_wait(tier)
  if redis.call('EXISTS', P .. 'resume') == 1 then return true end
  for _, name in ipairs(TIERS) do
    if redis.call('EXISTS', P .. 'tenants:' .. name) == 1 then return true end
    if name == tier then return false end
  end
  return false
end

-- ---------------------------------------------------------------------------------------------------------- settling

local function publish(gateway, frame)
  if gateway and gateway ~= '' then redis.call('PUBLISH', 'ms:frames:' .. gateway, '[' .. frame .. ']') end
end

local function frame_of(id, lease, seq, chunk)
  return '["' .. id .. '","' .. lease .. '",' .. seq .. ',' .. chunk .. ']'
end

local function write_chunk(id, seq, chunk)
  redis.call('XADD', P .. 'chunks:' .. id, '0-' .. seq, 'c', chunk)
end

local function release(id, worker)
  if worker and worker ~= '' and redis.call('SREM', P .. 'held:' .. worker, id) == 1 then
    redis.call('ZINCRBY', P .. 'load', -1, worker)
  end
end

-- What the tenant owes once the tokens are known; claim charged an estimate in advance.
local function charge(tier, tenant, weight, tokens)
  if redis.call('ZSCORE', P .. 'tenants:' .. tier, tenant) then
    redis.call('ZINCRBY', P .. 'tenants:' .. tier, tokens / weight, tenant)
  end
end

local function unfollow(gateway, id)
  if not gateway or gateway == '' then return end
  redis.call('SREM', P .. 'follows:' .. gateway, id)
end

-- The end of a job's life: from here on nothing of it lives for ever.
local function settle(id, state, finish, usage, tokens)
  leave_queue(id, true)
  local job = redis.call('HMGET', job_key(id), 'worker', 'tier', 'tenant', 'weight', 'charged', 'gateway', 'retention')
  release(id, job[1])
  charge(job[2], job[3], tonumber(job[4]), tokens - tonumber(job[5] or 0))
  unfollow(job[6], id)
  redis.call('ZREM', P .. 'deadlines', id)
  redis.call('HSET', job_key(id), 'state', state, 'finish', finish, 'usage', usage, 'settled', NOW)
  redis.call('PEXPIRE', job_key(id), job[7])
  redis.call('PEXPIRE', P .. 'chunks:' .. id, job[7])
end

-- Settle a job no worker will end: the error becomes its last chunk, under a new grant, so that nothing older follows.
local function settle_with_error(id, state, code, message)
  local job = redis.call('HMGET', job_key(id), 'seq', 'gateway')
  local seq = tonumber(job[1]) + 1
  local lease = redis.call('HINCRBY', job_key(id), 'grant', 1) .. ':-'
  local chunk = cjson.encode({error = {code = code, message = message}})
  write_chunk(id, seq, chunk)
  settle(id, state, 'error', '{}', 0)
  redis.call('HSET', job_key(id), 'seq', seq, 'lease', lease, 'error', message)
  publish(job[2], frame_of(id, lease, seq, chunk))
end

local function expire(id)
  settle_with_error(id, 'expired', 'deadline_exceeded', 'The request was not finished before its deadline.')
end

local function bury(id, attempt)
  local message = 'The workers running this request died ' .. attempt .. ' times; it is not tried again.'
  settle_with_error(id, 'failed', 'worker_lost', message)
  redis.call('XADD', P .. 'dead', 'MAXLEN', 1000, '*', 'job', id, 'reason', message)
end

-- A running job loses its worker: back to where the next free slot finds it first. `attempts` is added to its count.
local function requeue(id, attempts, max_attempts, not_this)
  local job = redis.call('HMGET', job_key(id), 'worker', 'cancel', 'deadline')
  leave_queue(id, true)
  release(id, job[1])
  redis.call('HSET', job_key(id), 'state', 'queued', 'lease', '', 'worker', '')
  local attempt = redis.call('HINCRBY', job_key(id), 'attempt', attempts)
  if job[2] then return settle_with_error(id, 'cancelled', 'cancelled', 'The request was cancelled.') end
  if tonumber(job[3]) <= NOW then return expire(id) end
  if attempts > 0 and attempt >= max_attempts then return bury(id, attempt) end
  local worker = pick_worker(not_this)
  if worker then hand_to(id, worker) else enqueue(id, 'resume') end
end

-- Jobs handed to a worker that will not claim them go to another; returns how many of at most `limit`.
local function empty_inbox(worker, limit)
  if limit <= 0 then return 0 end
  local inbox = P .. 'inbox:' .. worker
  local entries = redis.call('XRANGE', inbox, '-', '+', 'COUNT', limit)
  for _, entry in ipairs(entries) do
    if redis.call('HGET', job_key(entry[2][2]), 'where') == 'inbox:' .. worker then
      requeue(entry[2][2], 0, 0, worker)
    else
      redis.call('XDEL', inbox, entry[1])
    end
  end
  return #entries
end

-- A gateway is known from its first job on, so that its death before the first watch is noticed too.
local function follow(gateway, id)
  redis.call('ZADD', P .. 'gateways', 'NX', NOW + 10000, gateway)
  redis.call('SADD', P .. 'follows:' .. gateway, id)
end
