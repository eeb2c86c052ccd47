-- with time, keys
-- Take a batch's lease, or renew it: one background process works on a batch at a time. A new holder gets a higher
-- grant, which fences what an older one still writes.
-- ARGV: owner, lease (ms; 0 lets go)
-- Returns {ok, grant, now, status} | {held} | {missing}
local owner, lease = ARGV[1], tonumber(ARGV[2])
local held = redis.call('HMGET', STATE_KEY, 'status', 'owner', 'until', 'grant')
if not held[1] then return {'missing'} end
local fresh = tonumber(held[3] or 0) > NOW
if fresh and held[2] ~= owner then return {'held'} end
local grant = tonumber(held[4] or 0)
if not fresh and lease > 0 then grant = grant + 1 end
redis.call('HSET', STATE_KEY, 'owner', owner, 'until', NOW + lease, 'grant', grant)
return {'ok', grant, NOW, held[1]}
