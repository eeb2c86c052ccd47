-- with time, keys, fence
-- The gateways that read the streams of jobs.

-- A gateway is known from its first job on, so that its death before the first watch is noticed too.
local function follow(gateway, id)
  redis.call('ZADD', GATEWAYS_KEY, 'GT', NOW + 10000, gateway)
  redis.call('SADD', follows_key(gateway), id)
end

local function unfollow(gateway, id)
  if not gateway or gateway == '' then return end
  redis.call('SREM', follows_key(gateway), id)
end

-- The reader of a job at this gateway has gone: whether another gateway's still reads. A job whose stream was taken over
-- goes back to the gateway it was taken from, if that one still reads it and lives.
local function read_elsewhere(id, gateway)
  local job = redis.call('HMGET', job_key(id), 'gateway', 'earlier')
  if job[1] == gateway or job[2] == gateway then redis.call('HDEL', job_key(id), 'earlier') end
  if job[1] ~= gateway then
    fence(id)
    return true
  end
  local lives = job[2] and redis.call('ZSCORE', GATEWAYS_KEY, job[2])
  if not lives or tonumber(lives) <= NOW then return false end
  unfollow(gateway, id)
  redis.call('HSET', job_key(id), 'gateway', job[2])
  fence(id)
  redis.call('SADD', follows_key(job[2]), id)
  return true
end
