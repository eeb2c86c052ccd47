-- with keys
-- A tenant's record is written, new or anew. The index lives as long as the longest-lived record it ever named.
-- `created` is in seconds; `anew` is 1 if only a record that is there may be written.
-- argv: kind id created body ttl_ms:number anew
-- Returns 1 | 0 (there is none)
local record, index = record_key(kind, id), index_key(kind)
if anew == '1' and redis.call('EXISTS', record) == 0 then return 0 end
redis.call('HSET', record, 'created', created, 'body', body)
redis.call('PEXPIRE', record, ttl_ms)
local left = redis.call('PTTL', index)
redis.call('ZADD', index, created, id)
if left < ttl_ms then redis.call('PEXPIRE', index, ttl_ms) end
return 1
