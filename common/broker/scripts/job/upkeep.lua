-- with time, keys, fence, grace, readers, waiting, routing, settle
-- What time brings about: deadlines that passed, jobs whose gateway died and whom nobody came back for, jobs on their
-- last try for which a worker is free.
-- No gateway counts as dead for `grace_ms` after a restart or a stall; the jobs of a dead one run on for `orphan_grace_ms`.
-- argv: orphan_grace_ms:number limit:number grace_ms:number
-- Returns {expired, orphans cancelled}
local FROZEN_MS = 300000  -- a machine that lost its power leaves its connections open for as long
local expired, orphans = 0, 0

local function stop(id, when_queued)
  local job = redis.call('HMGET', job_key(id), 'state', 'worker', 'cancel')
  if job[1] == 'queued' then
    when_queued(id)
  elseif job[1] == 'running' then
    if job[3] then return false end
    redis.call('HSET', job_key(id), 'cancel', NOW)
    fence(id)
    redis.call('PUBLISH', control_channel(job[2]), 'cancel ' .. id)
  else
    redis.call('ZREM', DEADLINES_KEY, id)
  end
  return true
end

-- A running job past its deadline is settled here; its worker is fenced by that and told to stop.
local function expire_any(id)
  local worker = redis.call('HGET', job_key(id), 'worker')
  if not worker then return redis.call('ZREM', DEADLINES_KEY, id) end
  if worker ~= '' then redis.call('PUBLISH', control_channel(worker), 'cancel ' .. id) end
  expire(id)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEADLINES_KEY, '-inf', NOW, 'LIMIT', 0, limit)) do
  expire_any(id)
  expired = expired + 1
end

-- To a worker with a free slot that has no other such job.
local function place(id)
  for _, each in ipairs(candidates(redis.call('HGET', job_key(id), 'tier'))) do
    if not holds_suspect(each.worker) then
      leave_queue(id, true)
      hand_to(id, each.worker)
      return entrust(id, each.worker)
    end
  end
end

if redis.call('EXISTS', stream_key(SUSPECTS)) == 1 then
  for _, entry in ipairs(redis.call('XRANGE', stream_key(SUSPECTS), '-', '+', 'COUNT', limit)) do place(entry[2][2]) end
end

-- A silent gateway whose subscription is open was stopped for a while, and its clients' connections live on: when it
-- wakes it goes on from the log. The sockets of a process that died are closed by its kernel.
local function frozen(gateway)
  local since = NOW - tonumber(redis.call('ZSCORE', GATEWAYS_KEY, gateway))
  local subscribed = redis.pcall('PUBSUB', 'NUMSUB', frames_channel(gateway))
  return since < FROZEN_MS and (subscribed[2] or 0) > 0
end

local function clear(gateway)
  local left = 0
  for _, id in ipairs(redis.call('SRANDMEMBER', follows_key(gateway), limit)) do
    if redis.call('HGET', job_key(id), 'resumable') == '0' and not read_elsewhere(id, gateway) then
      if stop(id, function(it) settle_with_error(it, 'cancelled', 'cancelled', 'Nobody came back for the request.') end) then
        orphans = orphans + 1
      end
    end
    redis.call('SREM', follows_key(gateway), id)
    left = left + 1
  end
  if left < limit then redis.call('ZREM', GATEWAYS_KEY, gateway) end
end

local silent = {}
if mercy_left(grace_ms) == 0 then
  silent = redis.call('ZRANGEBYSCORE', GATEWAYS_KEY, '-inf', NOW - orphan_grace_ms, 'LIMIT', 0, 16)
end
for _, gateway in ipairs(silent) do
  if not frozen(gateway) then clear(gateway) end
end
return {expired, orphans}
