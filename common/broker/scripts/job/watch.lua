-- with time, keys, chunks, position
-- A gateway asks whether it missed news of its jobs and where those that wait stand, and is known to live for a while.
-- It counts as living for `ttl_ms`; `had` is the last seq delivered of a job.
-- argv: gateway ttl_ms:number
-- each: id had:number
-- Returns {id, state, last seq, lease, jobs before it (-1: not queued)} of each job that has news or is queued; state
-- 'missing' if this server does not know it
redis.call('ZADD', GATEWAYS_KEY, NOW + ttl_ms, gateway)
local news, seen = {}, {}
for id, had in each() do
  local job = redis.call('HMGET', job_key(id), 'state', 'lease', 'grant')
  if not job[1] then
    news[#news + 1] = {id, 'missing', 0, '', -1}
  else
    local seq, ahead = seq_of(id), job[1] == 'queued' and ahead_of(id, seen) or -1
    if seq ~= had or ahead >= 0 then news[#news + 1] = {id, job[1], seq, lease_seen(job[2], job[3]), ahead} end
  end
end
return news
