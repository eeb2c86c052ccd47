-- with keys
-- What a tenant keeps in one pool (stored answers, files, batches): kept:<pool> has id -> when it expires, sizes:<pool> id ->
-- bytes, and all bytes together under the empty id.

local function drop(pool, id)
  local size = redis.call('HGET', sizes_key(pool), id)
  if not size then return end
  redis.call('HDEL', sizes_key(pool), id)
  redis.call('ZREM', kept_key(pool), id)
  redis.call('HINCRBY', sizes_key(pool), '', -tonumber(size))
end
