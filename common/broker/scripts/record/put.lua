-- with keys
-- A tenant's record is written, new or anew. The index lives as long as the longest-lived record it ever named.
-- ARGV: kind, id, created (s), body, ttl (ms), 1 if only a record that is there may be written
-- Returns 1 | 0 (there is none)
local kind, id, ttl = ARGV[1], ARGV[2], tonumber(ARGV[5])
local record, index = record_key(kind, id), index_key(kind)
if ARGV[6] == '1' and redis.call('EXISTS', record) == 0 then return 0 end
redis.call('HSET', record, 'created', ARGV[3], 'body', ARGV[4])
redis.call('PEXPIRE', record, ttl)
local left = redis.call('PTTL', index)
redis.call('ZADD', index, ARGV[3], id)
if left < ttl then redis.call('PEXPIRE', index, ttl) end
return 1
