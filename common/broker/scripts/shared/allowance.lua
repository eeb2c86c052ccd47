-- Shared by the scripts of API keys' limits: put between the prelude and each of them.
-- meter: what is left of the requests and tokens of a minute, refilled steadily; open: job -> tokens set aside, day, month,
-- request, and r, t if they were taken off the minute's requests, tokens; requests: request -> its open jobs; lapsing:
-- job -> until when; spent:<day or month>: tokens used.

-- Years, months and days from the days since 1970 (Howard Hinnant's algorithm).
local function civil(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - math.floor((153 * mp + 2) / 5) + 1
end

local TODAY = math.floor(NOW / 86400000)

local function today()
  local year, month, day = civil(TODAY)
  return string.format('%04d-%02d-%02d', year, month, day), string.format('%04d-%02d', year, month)
end

-- Days until the next month begins, today included.
local function days_left()
  local _, month = civil(TODAY)
  for days = 1, 31 do
    local _, then_month = civil(TODAY + days)
    if then_month ~= month then return days end
  end
end

local function level(what, limit)
  local meter = redis.call('HMGET', P .. 'meter', what, what .. '_at')
  if not meter[1] or limit == 0 then return limit end
  return math.min(limit, tonumber(meter[1]) + (NOW - tonumber(meter[2])) * limit / 60000)
end

-- An unused meter is a full one: it may go as soon as it is.
local function keep_level(what, value, limit)
  if limit == 0 then return end
  redis.call('HSET', P .. 'meter', what, string.format('%.6f', value), what .. '_at', NOW, what .. '_limit', limit)
  local full = math.ceil((limit - value) * 60000 / limit) + 60000
  if redis.call('PTTL', P .. 'meter') < full then redis.call('PEXPIRE', P .. 'meter', full) end
end

local function add_spent(what, tokens, days)
  redis.call('INCRBY', P .. 'spent:' .. what, tokens)
  redis.call('EXPIRE', P .. 'spent:' .. what, days * 86400)
end

-- One job's reservation becomes what it used; what of the minute it was taken off (`-rt`), false if there was none.
local function repay(job, tokens)
  local entry = redis.call('HGET', P .. 'open', job)
  if not entry then return false end
  local reserved, day, month, request, metered = string.match(entry, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  redis.call('HDEL', P .. 'open', job)
  redis.call('ZREM', P .. 'lapsing', job)
  if redis.call('HINCRBY', P .. 'requests', request, -1) <= 0 then redis.call('HDEL', P .. 'requests', request) end
  local unused = tonumber(reserved) - tokens
  local limit = tonumber(redis.call('HGET', P .. 'meter', 'tokens_limit') or 0)
  if limit > 0 and string.find(metered, 't') then
    keep_level('tokens', math.min(limit, level('tokens', limit) + unused), limit)
  end
  for _, what in ipairs({day, month}) do
    if redis.call('EXISTS', P .. 'spent:' .. what) == 1 then redis.call('DECRBY', P .. 'spent:' .. what, unused) end
  end
  return metered
end
