-- with time, keys, fence, grace, readers, settle
-- What time brings about: deadlines that passed, jobs whose gateway died and whom nobody came back for.
-- ARGV: orphan grace ms, limit, grace ms after a restart or a stall, in which no gateway counts as dead
-- Returns {expired, orphans cancelled}
local grace, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
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

local silent = {}
if mercy_left(tonumber(ARGV[3])) == 0 then
  silent = redis.call('ZRANGEBYSCORE', GATEWAYS_KEY, '-inf', NOW - grace, 'LIMIT', 0, 4)
end
for _, gateway in ipairs(silent) do
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
return {expired, orphans}
