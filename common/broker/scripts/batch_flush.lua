-- The answers of the lines [from, to) lie in a part of the output now.
-- ARGV: grant, from, to, offset of line `to` in the input (bytes), the part (JSON)
-- Returns 1 | 0 (fenced, or another was first)
local state = P .. 'state'
local known = redis.call('HMGET', state, 'grant', 'flushed')
if known[1] ~= ARGV[1] then return 0 end
if known[2] == ARGV[3] then return 1 end
if known[2] ~= ARGV[2] then return 0 end
redis.call('HSET', state, 'flushed', ARGV[3], 'offset', ARGV[4])
redis.call('RPUSH', P .. 'parts', ARGV[5])
redis.call('PEXPIRE', P .. 'parts', redis.call('PTTL', state))
for line = tonumber(ARGV[2]), tonumber(ARGV[3]) - 1 do redis.call('HDEL', P .. 'results', line) end
return 1
