-- A gateway takes over the stream of a job: a client reconnected, or the server came back from a restart. What a client
-- has received is the truth: chunks this server lost are put back, an owner with an older grant is fenced.
-- ARGV: id, gateway, tenant, highest grant seen (0: none), delivered seq, count of chunks given, seq of the first, chunks
-- Returns {missing} | {lost, seq} | {ok, state, seq, lease}
local id, gateway, seen, delivered = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local job = redis.call('HMGET', job_key(id), 'state', 'seq', 'lease', 'grant', 'gateway', 'tenant')
if not job[1] or job[6] ~= ARGV[3] then return {'missing'} end

local state, seq, lease, grant = job[1], tonumber(job[2]), job[3], tonumber(job[4])
local live = state == 'queued' or state == 'running'

-- The log ends before what the client has: put the rest back, or say that it cannot be.
if delivered > seq then
  local count, first = tonumber(ARGV[6]), tonumber(ARGV[7])
  if not live or count == 0 or first > seq + 1 or first + count - 1 < delivered then return {'lost', seq} end
  for i = seq + 1, delivered do write_chunk(id, i, ARGV[8 + i - first]) end
  seq = delivered
  redis.call('HSET', job_key(id), 'seq', seq)
end

-- This server never heard of the lease that made those chunks: whoever holds the job by an older one must not go on.
if live and grant < seen then
  redis.call('HSET', job_key(id), 'grant', seen)
  if state == 'running' then requeue(id, 0, 0, '') end
  local now = redis.call('HMGET', job_key(id), 'state', 'lease')
  state, lease = now[1], now[2]
end

if live and job[5] ~= gateway then
  unfollow(job[5], id)
  redis.call('HSET', job_key(id), 'gateway', gateway)
  follow(gateway, id)
end
return {'ok', state, seq, lease}
