-- with keys
-- The answers of the lines [from_line, to_line) lie in a part of the output now.
-- `offset` is that of `to_line` in the input, in bytes; `part` is JSON.
-- argv: grant from_line:number to_line:number offset part
-- Returns 1 | 0 (fenced, or another was first)
local known = redis.call('HMGET', STATE_KEY, 'grant', 'flushed')
if known[1] ~= grant then return 0 end
local flushed = tonumber(known[2])
if flushed == to_line then return 1 end
if flushed ~= from_line then return 0 end
redis.call('HSET', STATE_KEY, 'flushed', to_line, 'offset', offset)
redis.call('RPUSH', PARTS_KEY, part)
redis.call('PEXPIRE', PARTS_KEY, redis.call('PTTL', STATE_KEY))
for line = from_line, to_line - 1 do redis.call('HDEL', RESULTS_KEY, line) end
return 1
