-- with time, keys, chunks, fence, tenants, waiting, readers
-- The end of a job's life.

-- What a tenant used today (days since 1970, UTC): counted in the step that settles the job, so once and for certain.
local function count_usage(tenant, usage, tokens)
  local told, used = pcall(cjson.decode, usage)
  if not told or not next(used) then used = {completion = tokens} end
  local day = usage_key(math.floor(NOW / 86400000))
  local jobs = redis.call('HINCRBY', day, tenant .. ' jobs', 1)
  for _, what in ipairs({'prompt', 'completion', 'cached'}) do
    if (used[what] or 0) > 0 then redis.call('HINCRBY', day, tenant .. ' ' .. what, used[what]) end
  end
  if jobs == 1 then redis.call('PEXPIRE', day, 400 * 86400000) end
end

-- The newest jobs that ended are listed for as long as they are kept: of a model, and of each tenant, so that nobody
-- drives another's out of its list.
local ENDED_MOST, ENDED_MOST_TENANT = 10000, 1000
local ENDED_LONGER = 60000  -- milliseconds that a list outlives its jobs, so that few of them must prolong it

-- Those that are not kept any more are taken off now and then; whoever reads the list passes over them.
local function prolong(list, retention)
  if redis.call('PTTL', list) >= retention then return end
  redis.call('ZREMRANGEBYSCORE', list, '-inf', NOW)
  redis.call('PEXPIRE', list, retention + ENDED_LONGER)
end

-- The model's list lives as long as any tenant's, so it is looked at only when a tenant's is prolonged.
local function list_ended(tenant, id, retention)
  local own = ended_key(tenant)
  for list, most in pairs({[ENDED_KEY] = ENDED_MOST, [own] = ENDED_MOST_TENANT}) do
    redis.call('ZADD', list, NOW + retention, id)
    redis.call('ZREMRANGEBYRANK', list, 0, -most - 1)
  end
  if redis.call('PTTL', own) >= retention then return end
  prolong(own, retention)
  prolong(ENDED_KEY, retention + ENDED_LONGER)
end

local LARGE = 1048576 -- bytes of a request that is not kept with its answer, as a recording's

-- From here on nothing of the job lives for ever.
local function settle(id, state, finish, usage, tokens)
  local job = redis.call('HMGET', job_key(id), 'worker', 'tier', 'tenant', 'weight', 'charged', 'gateway', 'retention',
    'account', 'bytes', 'where')
  if (job[10] or '') ~= '' then leave_queue(id, true) end
  release(id, job[1], job[2])
  charge(job[2], job[3], tonumber(job[4]), tokens - tonumber(job[5] or 0))
  count_usage(job[3], usage, tokens)
  unfollow(job[6], id)
  redis.call('ZREM', DEADLINES_KEY, id)
  redis.call('HSET', job_key(id), 'state', state, 'finish', finish, 'usage', usage, 'settled', NOW, 'tokens', tokens)
  if tonumber(job[9] or 0) > LARGE then redis.call('HSET', job_key(id), 'request', '') end
  if job[8] then redis.call('HSET', OWED_KEY, id, job[8] .. ' ' .. tokens) end
  list_ended(job[3], id, tonumber(job[7]))
  redis.call('PEXPIRE', job_key(id), job[7])
  redis.call('PEXPIRE', chunks_key(id), job[7])
end

-- A job that its worker settles as failed tells why where jobs are listed, as those do that no worker ends: in the
-- beginning of what its last chunk says, cut between two characters.
local LONGEST_REASON = 300 -- bytes

local function note_reason(id)
  local at = '0-' .. seq_of(id)
  local last = redis.call('XRANGE', chunks_key(id), at, at)[1]
  local told, reason = pcall(function() return cjson.decode(last[2][2]).error.message end)
  if not told or type(reason) ~= 'string' then return end
  if #reason > LONGEST_REASON then
    local cut = string.gsub(string.sub(reason, 1, LONGEST_REASON), '[\194-\244]?[\128-\191]*$', '')
    reason = cut .. ' ...'
  end
  redis.call('HSET', job_key(id), 'error', reason)
end

-- What was used of a job that nobody settles with its usage: the first chunk tells the prompt's tokens (unless another
-- job of the request counts them), each later one its own, or one if it does not tell. Of a very long log the chunks beyond
-- those that are read count as a token each: only an answer that somebody reads token by token has so many.
local MOST_READ = 1024

local function tokens_of(chunk)
  local ids = string.match(chunk, '^{"ids":%[([%d,]+)%]')
  if ids then
    local _, commas = string.gsub(ids, ',', '')
    return commas + 1
  end
  return tonumber(string.match(chunk, '"count":(%d+)}$') or 1)
end

local function used_so_far(id)
  local read = redis.call('XRANGE', chunks_key(id), '-', '+', 'COUNT', MOST_READ)
  local start = read[1] and read[1][2][2] or ''
  local prompt = not string.find(start, '"repeats":true', 1, true) and tonumber(string.match(start, '"prompt_tokens":(%d+)'))
  local completion = seq_of(id) - #read
  for i = 2, #read do completion = completion + tokens_of(read[i][2][2]) end
  return prompt or 0, completion
end

-- Settle a job no worker will end: the error becomes its last chunk, under a new grant, so that nothing older follows.
local function settle_with_error(id, state, code, message)
  local told, seq = redis.call('HMGET', job_key(id), 'gateway', 'earlier'), seq_of(id) + 1
  local prompt, completion = used_so_far(id)
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
