-- with keys
-- A job's chunk log, and the frames that announce what was added to it.

-- The last chunk's number: a log has no holes.
local function seq_of(id) return redis.call('XLEN', chunks_key(id)) end

local function write_chunk(id, seq, chunk)
  redis.call('XADD', chunks_key(id), '0-' .. seq, 'c', chunk)
end

local function frame_of(id, lease, seq, chunk)
  return '["' .. id .. '","' .. lease .. '",' .. seq .. ',' .. chunk .. ']'
end

local function publish(gateways, frame)
  for gateway in string.gmatch(gateways, '[^,]+') do
    redis.call('PUBLISH', frames_channel(gateway), '[' .. frame .. ']')
  end
end

-- The lease below which nothing of a job is to be delivered any more: of a queued one, the beginning of the next. What
-- earlier ones wrote is in the log.
local function lease_seen(lease, grant)
  return lease ~= '' and lease or (grant + 1) .. ':'
end
