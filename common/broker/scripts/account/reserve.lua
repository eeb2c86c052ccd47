-- with time, keys, calendar, allowance
-- A request's tokens are set aside before it enters, by its API key's limits. KEYS[1] is the key's own prefix. Sending it
-- again changes nothing.
-- ARGV: request, ms until the reservation lapses, requests a minute, tokens a minute, requests at once (-1: it does not
--       even count as one), tokens a day, tokens a month (0: no limit), count of jobs, then id and tokens of each
-- Returns {ok | refused, why ('' | requests | tokens | size | concurrent | day | month), wait ms, requests left, ms until
--          all are, tokens left, ms until all are}
local request, lapse = ARGV[1], NOW + tonumber(ARGV[2])
local most = {requests = tonumber(ARGV[3]), tokens = tonumber(ARGV[4])}
local at_once, most_day, most_month = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local total = 0
for i = 9, 8 + 2 * tonumber(ARGV[8]), 2 do total = total + tonumber(ARGV[i + 1]) end

for _, job in ipairs(redis.call('ZRANGEBYSCORE', LAPSING_KEY, '-inf', NOW, 'LIMIT', 0, 100)) do repay(job, 0) end

local day, month = today()
local left = {requests = level('requests', most.requests), tokens = level('tokens', most.tokens)}

local function spent(what, limit)
  return limit > 0 and tonumber(redis.call('GET', spent_key(what)) or 0) + total > limit
end

local function add_spent(what, tokens, days)
  redis.call('INCRBY', spent_key(what), tokens)
  redis.call('EXPIRE', spent_key(what), days * 86400)
end

local function refusal()
  if at_once > 0 and redis.call('HLEN', REQUESTS_KEY) >= at_once then return 'concurrent', 1000 end
  if most.requests > 0 and left.requests < 1 then return 'requests', (1 - left.requests) * 60000 / most.requests end
  if most.tokens > 0 and total > most.tokens then return 'size', 0 end
  if most.tokens > 0 and left.tokens < total then return 'tokens', (total - left.tokens) * 60000 / most.tokens end
  if spent(day, most_day) then return 'day', 86400000 - NOW % 86400000 end
  if spent(month, most_month) then return 'month', days_left() * 86400000 - NOW % 86400000 end
end

local function reply(word, why, wait)
  local figures = {word, why, math.ceil(wait)}
  for _, what in ipairs({'requests', 'tokens'}) do
    local limit = most[what]
    figures[#figures + 1] = limit > 0 and math.max(0, math.floor(left[what])) or 0
    figures[#figures + 1] = limit > 0 and math.ceil((limit - left[what]) * 60000 / limit) or 0
  end
  return figures
end

if redis.call('HEXISTS', OPEN_KEY, ARGV[9]) == 1 then return reply('ok', '', 0) end
local why, wait = refusal()
if why then return reply('refused', why, wait) end

left.requests, left.tokens = left.requests - 1, left.tokens - total
keep_level('requests', left.requests, most.requests)
keep_level('tokens', left.tokens, most.tokens)
local metered = '-' .. (most.requests > 0 and 'r' or '') .. (most.tokens > 0 and 't' or '')
for i = 9, 8 + 2 * tonumber(ARGV[8]), 2 do
  redis.call('HSET', OPEN_KEY, ARGV[i], table.concat({ARGV[i + 1], day, month, request, metered}, ' '))
  redis.call('ZADD', LAPSING_KEY, lapse, ARGV[i])
  if at_once >= 0 then redis.call('HINCRBY', REQUESTS_KEY, request, 1) end
end
for _, key in ipairs({OPEN_KEY, LAPSING_KEY, REQUESTS_KEY}) do
  if redis.call('PTTL', key) < lapse - NOW + 60000 then redis.call('PEXPIRE', key, lapse - NOW + 60000) end
end
add_spent(day, total, 40)
add_spent(month, total, 400)
return reply('ok', '', 0)
