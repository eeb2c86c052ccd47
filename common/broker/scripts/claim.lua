-- A worker with n free slots takes what is its due, in one call, so that nothing is ever stranded between stream and
-- worker: its inbox, then resume, then tier by tier the tenant with the smallest virtual time.
-- ARGV: worker, n, grace ms, tokens charged in advance
-- Returns {grace, ms left} | {unregistered} | {ok, {id, lease, seq, attempt, deadline, request}...}
local worker, room, estimate = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])

local held_back = grace_left(tonumber(ARGV[3]))
if held_back > 0 then return {'grace', held_back} end
local lease_end = redis.call('ZSCORE', P .. 'leases', worker)
if not lease_end or tonumber(lease_end) <= NOW then return {'unregistered'} end

local reply = {'ok'}

local function grant(id)
  local job = redis.call('HMGET', job_key(id), 'state', 'deadline', 'seq', 'attempt', 'request', 'tier', 'tenant', 'weight')
  leave_queue(id, false)
  if job[1] ~= 'queued' then return end
  if tonumber(job[2]) <= NOW then return expire(id) end
  local lease = redis.call('HINCRBY', job_key(id), 'grant', 1) .. ':' .. worker
  redis.call('HSET', job_key(id), 'state', 'running', 'lease', lease, 'worker', worker, 'claimed', NOW,
    'progress', NOW, 'charged', estimate)
  redis.call('SADD', P .. 'held:' .. worker, id)
  redis.call('ZINCRBY', P .. 'load', 1, worker)
  charge(job[6], job[7], tonumber(job[8]), estimate)
  room = room - 1
  reply[#reply + 1] = {id, lease, job[3], job[4], job[2], job[5]}
end

local function read(stream, count)
  local found = redis.pcall('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', count, 'STREAMS', stream, '>')
  if found and found.err then
    redis.call('XGROUP', 'CREATE', stream, 'workers', 0)
    found = redis.call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', count, 'STREAMS', stream, '>')
  end
  return found and found[1] and found[1][2] or {}
end

-- Take up to `count` jobs off a stream; returns how many entries there were.
local function take(stream, count)
  if count <= 0 or redis.call('EXISTS', stream) == 0 then return 0 end
  local entries = read(stream, count)
  for _, entry in ipairs(entries) do
    redis.call('XACK', stream, 'workers', entry[1])
    redis.call('XDEL', stream, entry[1])
    grant(entry[2][2])
  end
  return #entries
end

local inbox = P .. 'inbox:' .. worker
take(inbox, room)
if redis.call('EXISTS', inbox) == 1 then drop_if_empty(inbox) end
while room > 0 and take(P .. 'resume', room) > 0 do end
for _, tier in ipairs(TIERS) do
  while room > 0 do
    local tenant = redis.call('ZRANGE', P .. 'tenants:' .. tier, 0, 0)[1]
    if not tenant then break end
    if take(P .. 'backlog:' .. tier .. ':' .. tenant, 1) == 0 then redis.call('ZREM', P .. 'tenants:' .. tier, tenant) end
  end
end
return reply
