-- with time, keys, chunks, fence, tenants, waiting, readers
-- The end of a job's life.

-- What a tenant used today (days since 1970, UTC): counted in the step that settles the job, so once and for certain.
local function count_usage(tenant, usage, tokens)
  local told, used = pcall(cjson.decode, usage)
  if not told or not next(used) then used = {completion = tokens} end
  local day = usage_key(math.floor(NOW / 86400000))
  redis.call('HINCRBY', day, tenant .. ' jobs', 1)
  for _, what in ipairs({'prompt', 'completion', 'cached'}) do
    if (used[what] or 0) > 0 then redis.call('HINCRBY', day, tenant .. ' ' .. what, used[what]) end
  end
  redis.call('PEXPIRE', day, 400 * 86400000)
end

-- From here on nothing of the job lives for ever.
local function settle(id, state, finish, usage, tokens)
  leave_queue(id, true)
  local job = redis.call('HMGET', job_key(id), 'worker', 'tier', 'tenant', 'weight', 'charged', 'gateway', 'retention',
    'account')
  release(id, job[1])
  charge(job[2], job[3], tonumber(job[4]), tokens - tonumber(job[5] or 0))
  count_usage(job[3], usage, tokens)
  unfollow(job[6], id)
  redis.call('ZREM', DEADLINES_KEY, id)
  redis.call('HSET', job_key(id), 'state', state, 'finish', finish, 'usage', usage, 'settled', NOW, 'tokens', tokens)
  if job[8] then redis.call('HSET', OWED_KEY, id, job[8] .. ' ' .. tokens) end
  redis.call('PEXPIRE', job_key(id), job[7])
  redis.call('PEXPIRE', chunks_key(id), job[7])
end

-- What was used of a job that nobody settles with its usage: the first chunk tells the prompt's tokens (unless another
-- job of the request counts them), and a chunk has about one token, but for the first one.
local function used_so_far(id, seq)
  local first = redis.call('XRANGE', chunks_key(id), '-', '+', 'COUNT', 1)[1]
  local start = first and first[2][2] or ''
  local prompt = not string.find(start, '"repeats":true', 1, true) and tonumber(string.match(start, '"prompt_tokens":(%d+)'))
  return prompt or 0, math.max(0, seq - 1)
end

-- Settle a job no worker will end: the error becomes its last chunk, under a new grant, so that nothing older follows.
local function settle_with_error(id, state, code, message)
  local told, seq = redis.call('HMGET', job_key(id), 'gateway', 'earlier'), seq_of(id) + 1
  local prompt, completion = used_so_far(id, seq - 1)
  local lease = redis.call('HINCRBY', job_key(id), 'grant', 1) .. ':-'
  local chunk = cjson.encode({error = {code = code, message = message}})
  write_chunk(id, seq, chunk)
  settle(id, state, 'error', cjson.encode({prompt = prompt, completion = completion}), prompt + completion)
  redis.call('HSET', job_key(id), 'lease', lease, 'error', message)
  publish(readers(told[1], told[2]), frame_of(id, lease, seq, chunk))
end

local function expire(id)
  settle_with_error(id, 'expired', 'deadline_exceeded', 'The request was not finished before its deadline.')
end
