-- with keys
-- A job's chunk log, and the frames that announce what was added to it.

-- The last chunk's number: a log has no holes.
local function seq_of(id) return redis.call('XLEN', chunks_key(id)) end

-- Whether its holder has brought the job further than it was when it was claimed. The first chunk of all says only that
-- the prompt was accepted.
local function made_progress(id)
  return seq_of(id) > math.max(tonumber(redis.call('HGET', job_key(id), 'from') or 0), 1)
end

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
