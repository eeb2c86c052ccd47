-- with keys
-- Fair turns among the tenants of a tier: each has a virtual time, the tokens it was served by its weight; the smallest is next.
local SERVED_MS = 600000  -- what a tenant was served is remembered for so long when nothing is claimed meanwhile
local SERVED_MOST = 1000  -- of so many tenants that wait no more: those served most

-- A tenant that begins to wait starts where the least served ones are, so that it is neither punished nor paid for
-- absence; but what it was served beyond that counts on, or one job at a time would each time be served as its first.
local function join_tenants(tier, tenant)
  local zset = tenants_key(tier)
  if redis.call('ZSCORE', zset, tenant) then return end
  local clock = tonumber(redis.call('GET', clock_key(tier)) or math.huge)
  local least = tonumber(redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2] or math.huge)
  local own = tonumber(redis.call('ZSCORE', served_key(tier), tenant) or 0)
  local start = math.min(clock, least)
  redis.call('ZREM', served_key(tier), tenant)
  redis.call('ZADD', zset, math.max(start < math.huge and start or 0, own), tenant)
end

local function leave_tenants(tier, tenant)
  local served = served_key(tier)
  redis.call('ZADD', served, redis.call('ZSCORE', tenants_key(tier), tenant) or 0, tenant)
  redis.call('ZREMRANGEBYRANK', served, 0, -SERVED_MOST - 1)
  redis.call('PEXPIRE', served, SERVED_MS)
  redis.call('ZREM', tenants_key(tier), tenant)
end

-- What the tenant owes once the tokens are known; claim charged an estimate in advance.
local function charge(tier, tenant, weight, tokens)
  local waiting, served = tenants_key(tier), served_key(tier)
  if redis.call('EXISTS', waiting, served) == 0 then return end
  for _, zset in ipairs({waiting, served}) do
    if redis.call('ZADD', zset, 'XX', 'INCR', tokens / weight, tenant) then return end
  end
end
