-- with time, keys, tiers, chunks, fence, grace, tenants, waiting, routing, settle
-- rarely park, suits_somebody, expire, settle_with_error, uncount, leave_queue, holds_suspect, entrust
-- A worker with n free slots takes what is its due, in one call, so that nothing is ever stranded between stream and
-- worker: its inbox, then resume, what is parked for one like it, one job on its last try, then tier by tier the tenant
-- with the smallest virtual time, of whose jobs the one with the earliest deadline. Fewer than n are all there is for it
-- now.
-- `room` is n, `estimate` the tokens charged in advance.
-- argv: worker room:number grace_ms:number estimate:number
-- Returns {grace, ms left} | {unregistered} | {ok, {id, lease, seq, attempt, deadline, request,
-- submitted, leases}...}
local held_back = grace_left(grace_ms)
if held_back > 0 then return {'grace', held_back} end
local lease_end = redis.call('ZSCORE', LEASES_KEY, worker)
if not lease_end or tonumber(lease_end) <= NOW then return {'unregistered'} end

local reply = {'ok'}
local MOST_REMEMBERED = 2000  -- bytes of the leases a job has had
local WARM_MS = 600000  -- a worker counts as having a prompt's beginning in its cache for so long

-- The leases a job has had, each `<lease> <last seq before it> <when granted> <when given up>`, and `lost` after it if its
-- worker did not give it up itself; joined by commas. Only the last ones of a job that has had very many.
local function with_lease(past, lease, seq)
  if past and #past > MOST_REMEMBERED then past = string.sub(past, string.find(past, ',', 1, true) + 1) end
  return (past and past .. ',' or '') .. lease .. ' ' .. seq .. ' ' .. NOW
end

-- A job that this worker may not run waits for another, or ends with the reason if there is none.
local function turn_away(id, demands)
  if suits_somebody(demands) then return park(id) end
  local here = redis.call('HGET', worker_key(worker), 'fingerprint')
  if demands.made_by == '' or demands.made_by == here then
    local message = 'No worker that is left has the context of ' .. demands.room .. ' tokens that this request needs.'
    return settle_with_error(id, 'failed', 'context_length_exceeded', message)
  end
  local message = 'The worker that began this answer is gone, and the workers that are left run another model under its '
    .. 'name (fingerprint ' .. here .. ', not ' .. demands.made_by .. '). Send the request again.'
  settle_with_error(id, 'failed', 'worker_lost', message)
end

-- The job's own inbox counts it as load already. What is left of `where` is ''.
local function leave(id, where, entry, tenant, tier, bytes, in_stream)
  if where == inbox_name(worker) then return end
  redis.call('ZINCRBY', LOAD_KEY, 1, worker)
  if (where or '') == '' then return end
  if in_stream then redis.call('XDEL', stream_key(where), entry) end
  local other = inbox_owner(where)
  if other then return redis.call('ZINCRBY', LOAD_KEY, -1, other) end
  uncount(id, where, entry, tenant, tier, bytes)
end

-- `in_stream`: the job's entry is still in its stream. `guaranteed`: it runs on its tier's share, not to be preempted.
local function grant(id, in_stream, guaranteed)
  local job = redis.call('HMGET', job_key(id), 'state', 'deadline', 'attempt', 'request', 'tier', 'tenant', 'weight',
    'affinity', 'charged', 'guaranteed', 'leases', 'submitted', 'where', 'entry', 'bytes', 'needs', 'grant', 'gateway',
    'earlier', 'cancel', 'preempt')
  if job[1] ~= 'queued' then return leave_queue(id, in_stream) end
  if tonumber(job[2]) <= NOW then
    leave_queue(id, in_stream)
    return expire(id)
  end
  local seq = seq_of(id)
  local demands = demands_by(id, job[16], seq)
  if not suits(worker, demands) then
    leave_queue(id, in_stream)
    return turn_away(id, demands)
  end
  local granted = job[17] + 1
  local lease = granted .. ':' .. worker
  local leases = with_lease(job[11], lease, seq)
  redis.call('HSET', job_key(id), 'state', 'running', 'lease', lease, 'worker', worker, 'claimed', NOW,
    'charged', job[9] or estimate, 'from', seq, 'leases', leases, 'grant', granted, 'where', '', 'entry', '')
  leave(id, job[13], job[14], job[6], job[5], job[15], in_stream)
  write_fence(id, worker, lease, unpack(job, 18, 21))
  if LOWER[job[5]] then redis.call('ZADD', running_key(job[5]), (guaranteed or job[10]) and -NOW or NOW, id) end
  if job[10] then redis.call('HDEL', job_key(id), 'guaranteed') end
  for key in string.gmatch(job[8] or '', '%S+') do redis.call('SET', warm_key(key), worker, 'PX', WARM_MS) end
  if not job[9] then charge(job[5], job[6], tonumber(job[7]), estimate) end
  room = room - 1
  reply[#reply + 1] = {id, lease, seq, job[3], job[2], job[4], job[12], leases}
end

-- Take up to `count` jobs off a stream; returns how many entries there were. One that is empty then goes: one command
-- takes all entries, and a stream without any has no more than a name.
local function take(stream, count, guaranteed)
  if count <= 0 then return 0 end
  local entries = redis.call('XRANGE', stream, '-', '+', 'COUNT', count)
  if #entries == 0 then return 0 end
  if #entries < count then
    redis.call('DEL', stream)
  else
    for _, entry in ipairs(entries) do redis.call('XDEL', stream, entry[1]) end
    drop_if_empty(stream)
  end
  for _, entry in ipairs(entries) do
    if stream == stream_key(SUSPECTS) then entrust(entry[2][2], worker) end
    grant(entry[2][2], false, guaranteed)
  end
  return #entries
end

local function take_all(stream)
  repeat
    local asked = room
  until take(stream, asked) < asked or room <= 0
end

-- Asked in one command, because mostly there is nothing.
local function anything_to_take()
  local places = {stream_key(RESUME), stream_key(PARKED), stream_key(SUSPECTS)}
  for _, tier in ipairs(TIERS) do
    places[#places + 1] = tenants_key(tier)
    if LOWER[tier] then places[#places + 1] = stream_key(resume_name(tier)) end
  end
  return redis.call('EXISTS', unpack(places)) > 0
end

take_all(stream_key(inbox_name(worker)))
if room <= 0 or not anything_to_take() then return reply end
take_all(stream_key(RESUME))

local PARKED_LOOK = 100  -- parked jobs that one claim looks at

if room > 0 and redis.call('EXISTS', stream_key(PARKED)) == 1 then
  for _, entry in ipairs(redis.call('XRANGE', stream_key(PARKED), '-', '+', 'COUNT', PARKED_LOOK)) do
    local demands = demands_of(entry[2][2])
    if room > 0 and (suits(worker, demands) or not suits_somebody(demands)) then grant(entry[2][2], true, false) end
  end
end

if room > 0 and redis.call('EXISTS', stream_key(SUSPECTS)) == 1 and not holds_suspect(worker) then
  take(stream_key(SUSPECTS), 1)
end

local SHARES = {default = 4, flex = 8, batch = 16}  -- the least part of contended claims a tier gets: one of so many
local TURNS_MS = 86400000

-- The highest tier that waits; but now and then the turn of a lower one, so that none starves. A lower tier that has a
-- job running on every worker as it is needs no turn.
local function next_tier()
  local waiting = {}
  for _, tier in ipairs(TIERS) do
    if tier_waits(tier) then waiting[#waiting + 1] = tier end
  end
  if #waiting > 1 then
    local turn = redis.call('INCR', TURNS_KEY)
    redis.call('PEXPIRE', TURNS_KEY, TURNS_MS)
    for i = #waiting, 2, -1 do
      local tier = waiting[i]
      local short = not LOWER[tier] or redis.call('ZCARD', running_key(tier)) < redis.call('ZCARD', LEASES_KEY)
      if turn % SHARES[tier] == 0 and short then return tier, true end
    end
  end
  return waiting[1], false
end

local function take_tier(tier, guaranteed)
  if LOWER[tier] and take(stream_key(resume_name(tier)), 1, guaranteed) > 0 then return end
  local tenant, served = unpack(redis.call('ZRANGE', tenants_key(tier), 0, 0, 'WITHSCORES'))
  if not tenant then return end
  redis.call('SET', clock_key(tier), served, 'PX', SERVED_MS)
  local order = order_key(tier, tenant)
  local first = redis.call('ZRANGE', order, 0, 0)[1]
  if not first then return redis.call('ZREM', tenants_key(tier), tenant) end
  redis.call('ZREM', order, first)
  grant(string.match(first, ' (.+)$'), true, guaranteed)
end

local slots = tonumber(redis.call('HGET', worker_key(worker), 'slots') or 1)
while room > 0 do
  local tier, guaranteed = next_tier()
  if not tier or (not guaranteed and room <= math.min(reserve_of(tier), slots - 1)) then break end
  take_tier(tier, guaranteed)
end
return reply
