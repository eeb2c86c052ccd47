-- with time, keys
-- Take a batch's lease, or renew it: one background process works on a batch at a time. A new holder gets a higher
-- grant, which fences what an older one still writes.
-- A lease of 0 lets go.
-- argv: owner lease_ms:number
-- Returns {ok, grant, now, status} | {held} | {missing}
local held = redis.call('HMGET', STATE_KEY, 'status', 'owner', 'until', 'grant')
if not held[1] then return {'missing'} end
local fresh = tonumber(held[3] or 0) > NOW
if fresh and held[2] ~= owner then return {'held'} end
local grant = tonumber(held[4] or 0)
if not fresh and lease_ms > 0 then grant = grant + 1 end
redis.call('HSET', STATE_KEY, 'owner', owner, 'until', NOW + lease_ms, 'grant', grant)
return {'ok', grant, NOW, held[1]}
