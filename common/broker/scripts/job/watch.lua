-- with time, keys, chunks, position
-- A gateway asks whether it missed news of its jobs and where those that wait stand, and is known to live for a while.
-- ARGV: gateway, time to live ms, then id and last seq delivered of each job
-- Returns {id, state, last seq, lease, jobs before it (-1: not queued)} of each job that has news or is queued; state
-- 'missing' if this server does not know it
redis.call('ZADD', GATEWAYS_KEY, NOW + tonumber(ARGV[2]), ARGV[1])
local news, seen = {}, {}
for i = 3, #ARGV, 2 do
  local id, had = ARGV[i], tonumber(ARGV[i + 1])
  local job = redis.call('HMGET', job_key(id), 'state', 'lease', 'grant')
  if not job[1] then
    news[#news + 1] = {id, 'missing', 0, '', -1}
  else
    local seq, ahead = seq_of(id), job[1] == 'queued' and ahead_of(id, seen) or -1
    if seq ~= had or ahead >= 0 then news[#news + 1] = {id, job[1], seq, lease_seen(job[2], job[3]), ahead} end
  end
end
return news
