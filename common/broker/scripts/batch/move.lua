-- with time, keys
-- A batch's status changes, with what belongs to it; `<status>_at` is this moment.
-- ARGV: grant ('' any), the statuses it may have now (separated by spaces), the new one, then fields and values
-- Returns {changed (1 or 0), status now ('' no such batch)}
local known = redis.call('HMGET', STATE_KEY, 'grant', 'status')
local status = known[2] or ''
if ARGV[1] ~= '' and known[1] ~= ARGV[1] then return {0, status} end
if status == '' or not string.find(' ' .. ARGV[2] .. ' ', ' ' .. status .. ' ', 1, true) then return {0, status} end
redis.call('HSET', STATE_KEY, 'status', ARGV[3], ARGV[3] .. '_at', math.floor(NOW / 1000))
for at = 4, #ARGV, 2 do redis.call('HSET', STATE_KEY, ARGV[at], ARGV[at + 1]) end
return {1, ARGV[3]}
