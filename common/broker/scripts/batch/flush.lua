-- with keys
-- The answers of the lines [from, to) lie in a part of the output now.
-- ARGV: grant, from, to, offset of line `to` in the input (bytes), the part (JSON)
-- Returns 1 | 0 (fenced, or another was first)
local known = redis.call('HMGET', STATE_KEY, 'grant', 'flushed')
if known[1] ~= ARGV[1] then return 0 end
if known[2] == ARGV[3] then return 1 end
if known[2] ~= ARGV[2] then return 0 end
redis.call('HSET', STATE_KEY, 'flushed', ARGV[3], 'offset', ARGV[4])
redis.call('RPUSH', PARTS_KEY, ARGV[5])
redis.call('PEXPIRE', PARTS_KEY, redis.call('PTTL', STATE_KEY))
for line = tonumber(ARGV[2]), tonumber(ARGV[3]) - 1 do redis.call('HDEL', RESULTS_KEY, line) end
return 1
