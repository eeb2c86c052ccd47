-- Shared by every script: put before it when it is loaded. KEYS[1] is the model's prefix "ms:{model}:"; every other key
-- begins with it and so lies in the same cluster slot. All times are this server's, in milliseconds.
local P = KEYS[1]
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TIERS = {'priority', 'default', 'flex', 'batch'}
local LOWER = {flex = true, batch = true}  -- they give way to the others, mid-stream if need be

local function job_key(id) return P .. 'job:' .. id end

-- The last chunk's number: a log has no holes.
local function seq_of(id) return redis.call('XLEN', P .. 'chunks:' .. id) end

-- The gateways a job's frames go to: the one that took its stream up last, and the one before if that may still read.
local function readers(gateway, earlier) return earlier and gateway .. ',' .. earlier or gateway end

-- What a step must know of a running job, for all jobs of a worker in one hash: its lease, its readers, and what the
-- worker is asked for. Written anew from the job by whatever changes one of these.
local function fence(id)
  local job = redis.call('HMGET', job_key(id), 'state', 'worker', 'lease', 'gateway', 'earlier', 'cancel', 'preempt')
  if job[1] ~= 'running' then return end
  local wanted = job[6] and 'cancel' or job[7] and 'preempt' or ''
  redis.call('HSET', P .. 'fences:' .. job[2], id, job[3] .. ' ' .. readers(job[4], job[5]) .. ' ' .. wanted)
end

-- Returns lease, readers and what is wanted ('' nothing), or nothing for a job the worker does not hold.
local function read_fence(text)
  if text then return string.match(text, '^(%S+) (%S*) (%a*)$') end
end

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

local STALL_MS = 1000  -- above the pause between two rounds of upkeep, or every round would find a stall

-- The server takes writes now. If it took none for as long as half a lease (it was stopped, silent, out of memory), then
-- leases ran out because nobody could renew them.
local function note_writing(lease_ms)
  local seen = redis.call('HMGET', P .. 'server', 'wrote', 'lease')
  lease_ms = lease_ms or tonumber(seen[2] or 0)
  if seen[1] and NOW - seen[1] > math.max(STALL_MS, lease_ms / 2) then
    redis.call('HSET', P .. 'server', 'stalled', NOW)
  end
  redis.call('HSET', P .. 'server', 'wrote', NOW, 'lease', lease_ms)
end

-- How long nobody may yet be taken for dead because time ran out, after a restart or a stall (0: not at all): leases are
-- renewed first, and gateways say that they live.
local function mercy_left(grace_ms)
  note_writing()
  local stalled = tonumber(redis.call('HGET', P .. 'server', 'stalled') or 0)
  return math.max(grace_left(grace_ms), stalled + grace_ms - NOW)
end

-- ---------------------------------------------------------------------------------------------------------- waiting

local function count_waiting(tenant, jobs, bytes)
  for field, by in pairs({jobs = jobs, bytes = bytes, ['jobs:' .. tenant] = jobs, ['bytes:' .. tenant] = bytes}) do
    if redis.call('HINCRBY', P .. 'waiting', field, by) <= 0 then redis.call('HDEL', P .. 'waiting', field) end
  end
end

local SERVED_MS = 600000  -- what a tenant was served is remembered for so long when nothing is claimed meanwhile
local SERVED_MOST = 1000  -- of so many tenants that wait no more: those served most

-- A tenant that begins to wait starts where the least served ones are, so that it is neither punished nor paid for
-- absence; but what it was served beyond that counts on, or one job at a time would each time be served as its first.
local function join_tenants(tier, tenant)
  local zset = P .. 'tenants:' .. tier
  if redis.call('ZSCORE', zset, tenant) then return end
  local clock = tonumber(redis.call('GET', P .. 'clock:' .. tier) or math.huge)
  local least = tonumber(redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2] or math.huge)
  local own = tonumber(redis.call('ZSCORE', P .. 'served:' .. tier, tenant) or 0)
  local start = math.min(clock, least)
  redis.call('ZREM', P .. 'served:' .. tier, tenant)
  redis.call('ZADD', zset, math.max(start < math.huge and start or 0, own), tenant)
end

local function leave_tenants(tier, tenant)
  local served = P .. 'served:' .. tier
  redis.call('ZADD', served, redis.call('ZSCORE', P .. 'tenants:' .. tier, tenant) or 0, tenant)
  redis.call('ZREMRANGEBYRANK', served, 0, -SERVED_MOST - 1)
  redis.call('PEXPIRE', served, SERVED_MS)
  redis.call('ZREM', P .. 'tenants:' .. tier, tenant)
end

local function drop_if_empty(stream)
  if redis.call('XLEN', stream) == 0 then redis.call('DEL', stream) return true end
  return false
end

local function wait_in(id, where)
  local entry = redis.call('XADD', P .. where, '*', 'job', id)
  redis.call('HSET', job_key(id), 'where', where, 'entry', entry)
  return entry
end

-- Inside a tenant the earliest deadline goes first, then the oldest: a sorted set beside each backlog keeps that order.
local function order_key(backlog) return P .. 'order:' .. string.sub(backlog, 9) end

local function turn_of(id, entry)
  local ms, seq = string.match(entry, '^(%d+)-(%d+)$')
  return string.format('%s-%06d %s', ms, tonumber(seq), id)
end

-- An interactive job waits: the youngest running job of a lower tier is asked to give its slot back, once, unless it
-- runs on its tier's guaranteed share (both have their times negated). It goes on later, from its next token.
local function make_room()
  for _, tier in ipairs({'batch', 'flex'}) do
    local youngest = redis.call('ZREVRANGE', P .. 'running:' .. tier, 0, 0, 'WITHSCORES')
    local id, since = youngest[1], tonumber(youngest[2] or 0)
    if since > 0 then
      redis.call('ZADD', P .. 'running:' .. tier, -since, id)
      redis.call('HSET', job_key(id), 'preempt', NOW)
      fence(id)
      redis.call('PUBLISH', 'ms:control:' .. redis.call('HGET', job_key(id), 'worker'), 'preempt ' .. id)
      return
    end
  end
end

-- Put a job among the others of its tenant ('backlog') or, if it has begun already, before those of its kind ('resume').
local function enqueue(id, where)
  local job = redis.call('HMGET', job_key(id), 'tenant', 'tier', 'bytes', 'deadline')
  if where == 'resume' then
    wait_in(id, LOWER[job[2]] and 'resume:' .. job[2] or 'resume')
  else
    where = 'backlog:' .. job[2] .. ':' .. job[1]
    join_tenants(job[2], job[1])
    redis.call('ZADD', order_key(where), job[4], turn_of(id, wait_in(id, where)))
  end
  count_waiting(job[1], 1, tonumber(job[3]))
  if not LOWER[job[2]] then make_room() end
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
  local backlog = string.sub(where, 1, 8) == 'backlog:'
  if backlog then redis.call('ZREM', order_key(where), turn_of(id, job[2])) end
  if drop_if_empty(P .. where) and backlog then leave_tenants(job[4], job[3]) end
end

-- How many tenants a look at the queue counts one by one; it is an estimate beyond.
local LOOK = 100

-- How many waiting jobs come before this one, as far as can be told now: all above its tier, and of its own tier, where
-- tenants take turns, as many of each other tenant as there are of its own. `seen`: what this script call has looked up
-- before, if it asks for several jobs and changes nothing meanwhile.
local function ahead_of(id, seen)
  local job = redis.call('HMGET', job_key(id), 'where', 'entry', 'tier', 'tenant')
  local where, ahead = job[1], 0
  if not where or string.sub(where, 1, 6) == 'inbox:' then return 0 end
  local function once(command, name, ...)
    local found = seen[name] or redis.call(command, P .. name, ...)
    seen[name] = found
    return found
  end
  local function in_stream(name)
    if name == where then return #redis.call('XRANGE', P .. name, '-', job[2], 'COUNT', 1000) - 1 end
    return once('XLEN', name)
  end
  local function in_tier(tier, most_each)
    for _, tenant in ipairs(once('ZRANGE', 'tenants:' .. tier, 0, LOOK - 1)) do
      if not most_each then
        ahead = ahead + once('XLEN', 'backlog:' .. tier .. ':' .. tenant)
      elseif tenant ~= job[4] then
        ahead = ahead + math.min(most_each, once('XLEN', 'backlog:' .. tier .. ':' .. tenant))
      end
    end
  end
  ahead = in_stream('resume')
  if where == 'resume' then return ahead end
  for _, tier in ipairs(TIERS) do
    if LOWER[tier] then ahead = ahead + in_stream('resume:' .. tier) end
    if tier == job[3] then break end
    in_tier(tier)
  end
  if string.sub(where, 1, 8) ~= 'backlog:' then return ahead end
  local rank = redis.call('ZRANK', order_key(where), turn_of(id, job[2])) or 0
  in_tier(job[3], rank + 1)
  return ahead + rank
end

-- ---------------------------------------------------------------------------------------------------------- routing

-- Slots of each worker kept free of lower tiers; one always remains for them.
local function reserve_of(tier)
  return LOWER[tier] and tonumber(redis.call('HGET', P .. 'policy', 'reserve') or 0) or 0
end

-- The live, ready workers with a free slot for this tier. One whose speed is not measured yet counts as the fastest
-- known: counted as slow it would get no work, and so never be measured.
local function candidates(tier, not_this)
  local loads, found, fastest = redis.call('ZRANGE', P .. 'load', 0, -1, 'WITHSCORES'), {}, 0
  local reserve, live = reserve_of(tier), {}
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '(' .. NOW, '+inf')) do live[worker] = true end
  for i = 1, #loads, 2 do
    local worker, load = loads[i], tonumber(loads[i + 1])
    if worker ~= not_this and live[worker] then
      local beat = redis.call('HMGET', P .. 'worker:' .. worker, 'slots', 'speed', 'state')
      local slots, speed = tonumber(beat[1] or 0), tonumber(beat[2] or 0)
      fastest = math.max(fastest, speed)
      local free = slots - load - math.min(reserve, slots - 1)
      if beat[3] == 'ready' and free > 0 then
        found[#found + 1] = {worker = worker, load = load, speed = speed, free = free}
      end
    end
  end
  for _, each in ipairs(found) do
    if each.speed <= 0 then each.speed = fastest > 0 and fastest or 1 end
  end
  return found
end

-- Who would be done first: least load / speed.
local function shortest(found)
  local best, best_cost
  for _, each in ipairs(found) do
    local cost = (each.load + 1) / each.speed
    if not best or cost < best_cost then best, best_cost = each.worker, cost end
  end
  return best
end

-- At random, by speed. (The server seeds its own random numbers alike for every script.)
local function lottery(found, id)
  local all, at = 0, tonumber(string.sub(redis.sha1hex(id .. clock[2]), 1, 8), 16) / 2 ^ 32
  for _, each in ipairs(found) do all = all + each.speed end
  for _, each in ipairs(found) do
    at = at - each.speed / all
    if at <= 0 then return each.worker end
  end
  return found[#found].worker
end

-- Who lately served what this job begins with, the longest beginning first, unless it has more than `margin` jobs above
-- the least.
local function warm(found, affinity, kind, margin)
  local by_name, least = {}, math.huge
  for _, each in ipairs(found) do
    by_name[each.worker], least = each, math.min(least, each.load)
  end
  for key in string.gmatch(affinity, '%S+') do
    if kind == '' or string.sub(key, 1, 2) == kind then
      local each = by_name[redis.call('GET', P .. 'warm:' .. key) or '']
      if each and each.load - least <= margin then return each.worker end
    end
  end
end

-- The worker of those found to hand a job to by the model's policy, nil if there is none.
local function pick_worker(id, affinity, found)
  if #found == 0 then return nil end
  local policy = redis.call('HMGET', P .. 'policy', 'policy', 'margin')
  if policy[1] == 'lottery' then return lottery(found, id) end
  local kinds = {prefix = '', session = 's:'}
  local kind = kinds[policy[1] or '']
  return kind and affinity and warm(found, affinity, kind, tonumber(policy[2] or 4)) or shortest(found)
end

local function hand_to(id, worker)
  wait_in(id, 'inbox:' .. worker)
  redis.call('ZINCRBY', P .. 'load', 1, worker)
end

local function tier_waits(tier)
  if LOWER[tier] and redis.call('EXISTS', P .. 'resume:' .. tier) == 1 then return true end
  return redis.call('EXISTS', P .. 'tenants:' .. tier) == 1
end

-- Whether someone of this tier or a higher one waits already: then a free slot is theirs, its worker is about to claim.
local function others_wait(tier)
  if redis.call('EXISTS', P .. 'resume') == 1 then return true end
  for _, name in ipairs(TIERS) do
    if tier_waits(name) then return true end
    if name == tier then return false end
  end
  return false
end

-- ---------------------------------------------------------------------------------------------------------- settling

local function publish(gateways, frame)
  for gateway in string.gmatch(gateways, '[^,]+') do redis.call('PUBLISH', 'ms:frames:' .. gateway, '[' .. frame .. ']') end
end

local function frame_of(id, lease, seq, chunk)
  return '["' .. id .. '","' .. lease .. '",' .. seq .. ',' .. chunk .. ']'
end

local function write_chunk(id, seq, chunk)
  redis.call('XADD', P .. 'chunks:' .. id, '0-' .. seq, 'c', chunk)
end

local function release(id, worker)
  if worker and worker ~= '' and redis.call('HDEL', P .. 'fences:' .. worker, id) == 1 then
    redis.call('ZINCRBY', P .. 'load', -1, worker)
    for tier in pairs(LOWER) do redis.call('ZREM', P .. 'running:' .. tier, id) end
  end
end

-- What the tenant owes once the tokens are known; claim charged an estimate in advance.
local function charge(tier, tenant, weight, tokens)
  for _, zset in ipairs({P .. 'tenants:' .. tier, P .. 'served:' .. tier}) do
    if redis.call('ZSCORE', zset, tenant) then return redis.call('ZINCRBY', zset, tokens / weight, tenant) end
  end
end

local function unfollow(gateway, id)
  if not gateway or gateway == '' then return end
  redis.call('SREM', P .. 'follows:' .. gateway, id)
end

-- The lease below which nothing of a job is to be delivered any more: of a queued one, the beginning of the next. What
-- earlier ones wrote is in the log.
local function lease_seen(lease, grant)
  return lease ~= '' and lease or (grant + 1) .. ':'
end

-- What a tenant used today (days since 1970, UTC): counted in the step that settles the job, so once and for certain.
local function count_usage(tenant, usage, tokens)
  local told, used = pcall(cjson.decode, usage)
  if not told or not next(used) then used = {completion = tokens} end
  local day = P .. 'usage:' .. math.floor(NOW / 86400000)
  redis.call('HINCRBY', day, tenant .. ' jobs', 1)
  for _, what in ipairs({'prompt', 'completion', 'cached'}) do
    if (used[what] or 0) > 0 then redis.call('HINCRBY', day, tenant .. ' ' .. what, used[what]) end
  end
  redis.call('PEXPIRE', day, 400 * 86400000)
end

-- The end of a job's life: from here on nothing of it lives for ever.
local function settle(id, state, finish, usage, tokens)
  leave_queue(id, true)
  local job = redis.call('HMGET', job_key(id), 'worker', 'tier', 'tenant', 'weight', 'charged', 'gateway', 'retention',
    'account')
  release(id, job[1])
  charge(job[2], job[3], tonumber(job[4]), tokens - tonumber(job[5] or 0))
  count_usage(job[3], usage, tokens)
  unfollow(job[6], id)
  redis.call('ZREM', P .. 'deadlines', id)
  redis.call('HSET', job_key(id), 'state', state, 'finish', finish, 'usage', usage, 'settled', NOW, 'tokens', tokens)
  if job[8] then redis.call('HSET', P .. 'owed', id, job[8] .. ' ' .. tokens) end
  redis.call('PEXPIRE', job_key(id), job[7])
  redis.call('PEXPIRE', P .. 'chunks:' .. id, job[7])
end

-- Settle a job no worker will end: the error becomes its last chunk, under a new grant, so that nothing older follows.
local function settle_with_error(id, state, code, message)
  local told, seq = redis.call('HMGET', job_key(id), 'gateway', 'earlier'), seq_of(id) + 1
  local lease = redis.call('HINCRBY', job_key(id), 'grant', 1) .. ':-'
  local chunk = cjson.encode({error = {code = code, message = message}})
  write_chunk(id, seq, chunk)
  settle(id, state, 'error', '{}', math.max(0, seq - 2))  -- a token a chunk, but for the first and this one
  redis.call('HSET', job_key(id), 'lease', lease, 'error', message)
  publish(readers(told[1], told[2]), frame_of(id, lease, seq, chunk))
end

local function expire(id)
  settle_with_error(id, 'expired', 'deadline_exceeded', 'The request was not finished before its deadline.')
end

local function bury(id, attempt)
  local message = 'The workers running this request died ' .. attempt .. ' times; it is not tried again.'
  local job = redis.call('HMGET', job_key(id), 'tenant', 'request')
  settle_with_error(id, 'failed', 'worker_lost', message)
  redis.call('XADD', P .. 'dead', 'MAXLEN', 1000, '*', 'job', id, 'reason', message, 'tenant', job[1],
    'request', string.sub(job[2], 1, 65536))
end

-- A running job loses its worker: back to where the next free slot finds it first. `attempts` is added to its count.
local function requeue(id, attempts, max_attempts, not_this)
  local job = redis.call('HMGET', job_key(id), 'worker', 'cancel', 'deadline', 'tier', 'affinity')
  leave_queue(id, true)
  release(id, job[1])
  redis.call('HSET', job_key(id), 'state', 'queued', 'lease', '', 'worker', '')
  redis.call('HDEL', job_key(id), 'preempt')
  local attempt = redis.call('HINCRBY', job_key(id), 'attempt', attempts)
  if job[2] then return settle_with_error(id, 'cancelled', 'cancelled', 'The request was cancelled.') end
  if tonumber(job[3]) <= NOW then return expire(id) end
  if attempts > 0 and attempt >= max_attempts then return bury(id, attempt) end
  local worker = not (LOWER[job[4]] and others_wait(job[4])) and pick_worker(id, job[5], candidates(job[4], not_this))
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

-- The reader of a job at this gateway has gone: whether another gateway's still reads. A job whose stream was taken over
-- goes back to the gateway it was taken from, if that one still reads it and lives.
local function read_elsewhere(id, gateway)
  local job = redis.call('HMGET', job_key(id), 'gateway', 'earlier')
  if job[1] == gateway or job[2] == gateway then redis.call('HDEL', job_key(id), 'earlier') end
  if job[1] ~= gateway then
    fence(id)
    return true
  end
  local lives = job[2] and redis.call('ZSCORE', P .. 'gateways', job[2])
  if not lives or tonumber(lives) <= NOW then return false end
  unfollow(gateway, id)
  redis.call('HSET', job_key(id), 'gateway', job[2])
  fence(id)
  redis.call('SADD', P .. 'follows:' .. job[2], id)
  return true
end

-- A gateway is known from its first job on, so that its death before the first watch is noticed too.
local function follow(gateway, id)
  redis.call('ZADD', P .. 'gateways', 'GT', NOW + 10000, gateway)
  redis.call('SADD', P .. 'follows:' .. gateway, id)
end
