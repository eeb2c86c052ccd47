-- with time, keys
-- Room for an object that a tenant is about to keep, new or anew: all of it or nothing; or one that was deleted counts no
-- more. KEYS[1] is the tenant's own prefix. What has expired counts no more, a thousand a call.
-- kept:<pool> has id -> when it expires; sizes:<pool> id -> bytes, and all bytes together under the empty id.
-- An empty id only asks whether there is room for anything; `size` is in bytes, -1 if the object was deleted; `most_objects`
-- and `most_bytes` are 0 for no bound; `always` is 1 if it is to be kept whatever there is.
-- argv: pool name size:number ttl_ms:number most_objects:number most_bytes:number always
-- Returns {ok | refused, why ('' | count | bytes)}
local id = name
local kept, sizes = kept_key(pool), sizes_key(pool)

local function drop(gone)
  local bytes = redis.call('HGET', sizes, gone)
  if not bytes then return end
  redis.call('HDEL', sizes, gone)
  redis.call('ZREM', kept, gone)
  redis.call('HINCRBY', sizes, '', -tonumber(bytes))
end

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', kept, '-inf', NOW, 'LIMIT', 0, 1000)) do drop(gone) end
if size < 0 then
  drop(id)
  return {'ok', ''}
end

local there = tonumber(redis.call('HGET', sizes, id) or -1)
if id == '' then there = -1 end
local count = redis.call('ZCARD', kept) + (there < 0 and 1 or 0)
local total = tonumber(redis.call('HGET', sizes, '') or 0) + size - math.max(there, 0)
if always ~= '1' then
  if most_objects > 0 and count > most_objects then return {'refused', 'count'} end
  if most_bytes > 0 and total > most_bytes then return {'refused', 'bytes'} end
end
if id == '' then return {'ok', ''} end

redis.call('ZADD', kept, NOW + ttl_ms, id)
redis.call('HSET', sizes, id, size, '', total)
for _, key in ipairs({kept, sizes}) do
  if redis.call('PTTL', key) < ttl_ms then redis.call('PEXPIRE', key, ttl_ms) end
end
return {'ok', ''}
