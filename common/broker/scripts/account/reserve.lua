-- with time, keys, calendar, allowance
-- A request's tokens are set aside before it enters, by its API key's limits. KEYS[1] is the key's own prefix. Sending it
-- again changes nothing.
-- `lapse_ms` from now the reservation lapses. Limits are 0 where there is none; `concurrent` is -1 if a request does not
-- even count as one.
-- argv: request lapse_ms:number requests_per_minute:number tokens_per_minute:number concurrent:number
-- argv: tokens_per_day:number tokens_per_month:number
-- each: id tokens:number
-- Returns {ok | refused, why ('' | requests | tokens | size | concurrent | day | month), wait ms, requests left, ms until
--          all are, tokens left, ms until all are}
local lapse = NOW + lapse_ms
local most = {requests = requests_per_minute, tokens = tokens_per_minute}

local total, first = 0, nil
for id, tokens in each() do
  total, first = total + tokens, first or id
end

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
  if concurrent > 0 and redis.call('HLEN', REQUESTS_KEY) >= concurrent then return 'concurrent', 1000 end
  if most.requests > 0 and left.requests < 1 then return 'requests', (1 - left.requests) * 60000 / most.requests end
  if most.tokens > 0 and total > most.tokens then return 'size', 0 end
  if most.tokens > 0 and left.tokens < total then return 'tokens', (total - left.tokens) * 60000 / most.tokens end
  if spent(day, tokens_per_day) then return 'day', 86400000 - NOW % 86400000 end
  if spent(month, tokens_per_month) then return 'month', days_left() * 86400000 - NOW % 86400000 end
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

if redis.call('HEXISTS', OPEN_KEY, first) == 1 then return reply('ok', '', 0) end
local why, wait = refusal()
if why then return reply('refused', why, wait) end

left.requests, left.tokens = left.requests - 1, left.tokens - total
keep_level('requests', left.requests, most.requests)
keep_level('tokens', left.tokens, most.tokens)
local metered = '-' .. (most.requests > 0 and 'r' or '') .. (most.tokens > 0 and 't' or '')
for id, tokens in each() do
  redis.call('HSET', OPEN_KEY, id, table.concat({tokens, day, month, request, metered}, ' '))
  redis.call('ZADD', LAPSING_KEY, lapse, id)
  if concurrent >= 0 then redis.call('HINCRBY', REQUESTS_KEY, request, 1) end
end
for _, key in ipairs({OPEN_KEY, LAPSING_KEY, REQUESTS_KEY}) do
  if redis.call('PTTL', key) < lapse - NOW + 60000 then redis.call('PEXPIRE', key, lapse - NOW + 60000) end
end
add_spent(day, total, 40)
add_spent(month, total, 400)
return reply('ok', '', 0)
