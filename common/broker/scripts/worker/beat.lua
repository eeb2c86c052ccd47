-- with time, keys, chunks, fence, grace
-- Proof of life: renew the lease, write the heartbeat, compare what the worker runs with what it holds here.
-- `about` are the heartbeat's fields and values, `running` the ids of the jobs it runs.
-- argv: worker lease_ms:number about:list running:list
-- Returns {lost ids, {id, lease, seq, attempt, deadline, request, submitted, leases} of held jobs it does not know, ids
-- to cancel, ids to preempt}
note_writing(lease_ms)
redis.call('ZADD', LEASES_KEY, NOW + lease_ms, worker)
redis.call('ZADD', LOAD_KEY, 'NX', 0, worker)
redis.call('HSET', worker_key(worker), 'beat', NOW, unpack(ARGV, about_from, about_to))
redis.call('PEXPIRE', worker_key(worker), 3 * lease_ms)

local held, known = {}, {}
local fences = redis.call('HGETALL', fences_key(worker))
for i = 1, #fences, 2 do held[fences[i]] = fences[i + 1] end

local lost, cancel, unknown, preempt = {}, {}, {}, {}
for i = running_from, running_to do
  local id = ARGV[i]
  local lease, _, wanted = read_fence(held[id] or mended_fence(id, worker))
  known[id] = true
  if not lease then
    lost[#lost + 1] = id
  elseif wanted == 'cancel' then
    cancel[#cancel + 1] = id
  elseif wanted == 'preempt' then
    preempt[#preempt + 1] = id
  end
end
for id in pairs(held) do
  if not known[id] then
    local job = redis.call('HMGET', job_key(id), 'attempt', 'deadline', 'request', 'submitted', 'leases')
    if job[1] then
      -- A claim whose reply was lost; or the server restarted and lost that the job had ended here, and then what is made
      -- from now on comes in other chunks than what was made before: it needs a lease of its own.
      local lease = redis.call('HINCRBY', job_key(id), 'grant', 1) .. ':' .. worker
      redis.call('HSET', job_key(id), 'lease', lease)
      fence(id)
      unknown[#unknown + 1] = {id, lease, seq_of(id), job[1], job[2], job[3], job[4], job[5] or ''}
    else
      release(id, worker)
    end
  end
end
return {lost, unknown, cancel, preempt}
