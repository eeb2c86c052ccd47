-- with time, keys
-- Patience after the server was away: nobody could renew a lease or say that he lives.

local function uptime_ms()
  return tonumber(string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)')) * 1000
end

-- How long claim and evict must still hold back after the server restarted or failed over (0: not at all). Until then
-- gateways put back what was lost and workers renew leases that only look expired.
local function grace_left(grace_ms)
  local about = redis.call('INFO', 'server')
  local _, before = string.find(about, 'run_id:', 1, true)  -- a pattern would be tried at every letter: half of the cost
  local run_id = string.sub(about, before + 1, before + 40)
  local seen = redis.call('HMGET', SERVER_KEY, 'run_id', 'since')
  local since = tonumber(seen[2] or 0)
  if seen[1] ~= run_id then
    since = seen[1] and NOW or 0
    redis.call('HSET', SERVER_KEY, 'run_id', run_id, 'since', since)
  end
  return math.max(0, since + grace_ms - NOW)
end

local STALL_MS = 1000  -- above the pause between two rounds of upkeep, or every round would find a stall

-- The server takes writes now. If it took none for as long as half a lease (it was stopped, silent, out of memory), then
-- leases ran out because nobody could renew them.
local function note_writing(lease_ms)
  local seen = redis.call('HMGET', SERVER_KEY, 'wrote', 'lease')
  lease_ms = lease_ms or tonumber(seen[2] or 0)
  if seen[1] and NOW - seen[1] > math.max(STALL_MS, lease_ms / 2) then
    redis.call('HSET', SERVER_KEY, 'stalled', NOW)
  end
  redis.call('HSET', SERVER_KEY, 'wrote', NOW, 'lease', lease_ms)
end

-- How long nobody may yet be taken for dead because time ran out, after a restart or a stall (0: not at all): leases are
-- renewed first, and gateways say that they live.
local function mercy_left(grace_ms)
  note_writing()
  local stalled = tonumber(redis.call('HGET', SERVER_KEY, 'stalled') or 0)
  return math.max(grace_left(grace_ms), stalled + grace_ms - NOW)
end
