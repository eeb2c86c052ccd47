-- with keys, allowance
-- Jobs of an API key are settled: what was set aside and not used is given back, what was used beyond is taken. A job
-- that has been settled, or lapsed, changes nothing. KEYS[1] is the key's own prefix.
-- `unmade` is 1 if their request never entered and does not count as one, else 0.
-- argv: unmade
-- each: id tokens:number
-- Returns how many were settled now
local settled, counted = 0, false
for id, tokens in each() do
  local metered = repay(id, tokens)
  if metered then settled, counted = settled + 1, counted or string.find(metered, 'r') end
end
if unmade == '1' and counted then
  local limit = tonumber(redis.call('HGET', METER_KEY, 'requests_limit') or 0)
  if limit > 0 then keep_level('requests', math.min(limit, level('requests', limit) + 1), limit) end
end
return settled
