-- with time, keys
-- An API key's allowance. meter: what is left of the requests and tokens of a minute, refilled steadily; open: job -> tokens
-- set aside, day, month, request, and r, t if they were taken off the minute's requests, tokens; requests: request -> its
-- open jobs; lapsing: job -> until when; spent:<day or month>: tokens used.

local function level(what, limit)
  local meter = redis.call('HMGET', METER_KEY, what, what .. '_at')
  if not meter[1] or limit == 0 then return limit end
  return math.min(limit, tonumber(meter[1]) + (NOW - tonumber(meter[2])) * limit / 60000)
end

-- An unused meter is a full one: it may go as soon as it is.
local function keep_level(what, value, limit)
  if limit == 0 then return end
  redis.call('HSET', METER_KEY, what, string.format('%.6f', value), what .. '_at', NOW, what .. '_limit', limit)
  local full = math.ceil((limit - value) * 60000 / limit) + 60000
  if redis.call('PTTL', METER_KEY) < full then redis.call('PEXPIRE', METER_KEY, full) end
end

-- One job's reservation becomes what it used; what of the minute it was taken off (`-rt`), false if there was none.
local function repay(job, tokens)
  local entry = redis.call('HGET', OPEN_KEY, job)
  if not entry then return false end
  local reserved, day, month, request, metered = string.match(entry, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  redis.call('HDEL', OPEN_KEY, job)
  redis.call('ZREM', LAPSING_KEY, job)
  if redis.call('HINCRBY', REQUESTS_KEY, request, -1) <= 0 then redis.call('HDEL', REQUESTS_KEY, request) end
  local unused = tonumber(reserved) - tokens
  local limit = tonumber(redis.call('HGET', METER_KEY, 'tokens_limit') or 0)
  if limit > 0 and string.find(metered, 't') then
    keep_level('tokens', math.min(limit, level('tokens', limit) + unused), limit)
  end
  for _, what in ipairs({day, month}) do
    if redis.call('EXISTS', spent_key(what)) == 1 then redis.call('DECRBY', spent_key(what), unused) end
  end
  return metered
end
