-- with time, keys, tiers, chunks, fence, waiting, routing, settle
-- A running job loses its worker.
local function bury(id, attempt)
  local message = 'The workers running this request died ' .. attempt .. ' times without getting further; it is not tried again.'
  local job = redis.call('HMGET', job_key(id), 'tenant', 'request')
  settle_with_error(id, 'failed', 'worker_lost', message)
  redis.call('XADD', DEAD_KEY, 'MAXLEN', 1000, '*', 'job', id, 'reason', message, 'tenant', job[1],
    'request', string.sub(job[2], 1, 65536))
end

-- The newest jobs that gave up their slots when they were asked to. Some may be forgotten before they leave this list.
local PREEMPTED_MOST, PREEMPTED_KEPT = 1000, 86400000

local function note_preempted(id)
  redis.call('ZADD', PREEMPTED_KEY, NOW, id)
  redis.call('ZREMRANGEBYRANK', PREEMPTED_KEY, 0, -PREEMPTED_MOST - 1)
  redis.call('PEXPIRE', PREEMPTED_KEY, PREEMPTED_KEPT)
end

-- Back to where the next free slot finds it first. `attempts` is added to its count, unless its worker had brought it
-- further: then it is not what kills workers. Its last try is one beside no other job on its last try, so that what does
-- kill workers takes nobody with it to the end. One that is to wait its turn (`in_turn`) goes to the others of its tenant.
-- `lost`: its worker did not give it up itself, and so tells nothing of it.
local function requeue(id, attempts, max_attempts, not_this, in_turn, lost)
  if made_progress(id) then attempts = 0 redis.call('HDEL', job_key(id), 'suspect') end
  local job = redis.call('HMGET', job_key(id), 'worker', 'cancel', 'deadline', 'tier', 'affinity', 'leases', 'state',
    'preempt')
  local preempted = job[8] and not lost and job[7] == 'running'
  leave_queue(id, true)
  release(id, job[1], job[4])
  redis.call('HSET', job_key(id), 'state', 'queued', 'lease', '', 'worker', '')
  if job[6] and job[7] == 'running' then
    local how = lost and ' lost' or preempted and ' preempted' or ''
    redis.call('HSET', job_key(id), 'leases', job[6] .. ' ' .. NOW .. how)
  end
  if preempted and not job[2] then note_preempted(id) end
  redis.call('HDEL', job_key(id), 'preempt', 'successor')
  local attempt = redis.call('HINCRBY', job_key(id), 'attempt', attempts)
  if job[2] then return settle_with_error(id, 'cancelled', 'cancelled', 'The request was cancelled.') end
  if tonumber(job[3]) <= NOW then return expire(id) end
  if attempts > 0 and attempt >= max_attempts then return bury(id, attempt) end
  if attempts > 0 and attempt == max_attempts - 1 then redis.call('HSET', job_key(id), 'suspect', 1) end
  if redis.call('HEXISTS', job_key(id), 'suspect') == 1 then return enqueue(id, SUSPECTS) end
  local function chosen() return pick_worker(id, job[5], candidates(job[4], not_this, demands_of(id))) end
  local worker = not (LOWER[job[4]] and others_wait(job[4])) and chosen()
  if worker then return hand_to(id, worker) end
  enqueue(id, not in_turn and resume_of(job[4]) or nil)
end

-- Jobs handed to a worker that will not claim them go to another; returns how many of at most `limit`.
local function empty_inbox(worker, limit)
  if limit <= 0 then return 0 end
  local name = inbox_name(worker)
  local entries = redis.call('XRANGE', stream_key(name), '-', '+', 'COUNT', limit)
  for _, entry in ipairs(entries) do
    if redis.call('HGET', job_key(entry[2][2]), 'where') == name then
      requeue(entry[2][2], 0, 0, worker)
    else
      redis.call('XDEL', stream_key(name), entry[1])
    end
  end
  return #entries
end

local function holds(id, lease)
  local job = redis.call('HMGET', job_key(id), 'lease', 'state')
  return job[1] == lease and job[2] == 'running'
end

-- Its holder gives a job back, without counting an attempt if `attempts` is none. Returns queued | fenced
local function give_back(worker, id, lease, attempts, max_attempts)
  if not holds(id, lease) then return 'fenced' end
  requeue(id, attempts or 0, max_attempts or 0, worker)
  return 'queued'
end
