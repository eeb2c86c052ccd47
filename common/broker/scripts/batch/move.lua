-- with time, keys
-- A batch's status changes, with what belongs to it; `<status>_at` is this moment.
-- `grant` is '' for any; `allowed` are the statuses it may have now, separated by spaces; `fields` are names and values.
-- argv: grant allowed to fields:list
-- Returns {changed (1 or 0), status now ('' no such batch)}
local known = redis.call('HMGET', STATE_KEY, 'grant', 'status')
local status = known[2] or ''
if grant ~= '' and known[1] ~= grant then return {0, status} end
if status == '' or not string.find(' ' .. allowed .. ' ', ' ' .. status .. ' ', 1, true) then return {0, status} end
redis.call('HSET', STATE_KEY, 'status', to, to .. '_at', math.floor(NOW / 1000))
for at = fields_from, fields_to, 2 do redis.call('HSET', STATE_KEY, ARGV[at], ARGV[at + 1]) end
return {1, to}
