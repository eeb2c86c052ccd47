-- A gateway asks whether it missed news of its jobs, and is known to live for a while longer.
-- ARGV: gateway, time to live ms, then id and last seq delivered of each job
-- Returns {id, state, last seq, lease} of each job with news; state 'missing' if this server does not know it
redis.call('ZADD', P .. 'gateways', NOW + tonumber(ARGV[2]), ARGV[1])
local news = {}
for i = 3, #ARGV, 2 do
  local job = redis.call('HMGET', job_key(ARGV[i]), 'state', 'lease', 'grant')
  if not job[1] then
    news[#news + 1] = {ARGV[i], 'missing', 0, ''}
  else
    local seq = seq_of(ARGV[i])
    if seq ~= tonumber(ARGV[i + 1]) then news[#news + 1] = {ARGV[i], job[1], seq, lease_seen(job[2], job[3])} end
  end
end
return news
