-- with time, keys, tiers, chunks, fence, grace, routing
-- Tenants wait while others hold more than their share of the slots: jobs of those others are asked to give their slots
-- up, each to one job that waits. A job that gave its slot up goes on later, from its next token.
-- `patience_ms` is how long a tenant waits at least, and how long a job runs at least. No more than `limit` jobs are asked
-- in a call; none within `grace_ms` of a restart. Counting costs some microseconds for each running job, so after a count
-- for nothing there is none for `pause_ms`.
-- argv: patience_ms:number limit:number grace_ms:number pause_ms:number
-- Returns how many were asked
local MOST_TENANTS = 100  -- of a tier, those served least
local MOST_DOUBLINGS = 3  -- a job runs twice as long after each time it gave its slot up, and at most eight times as long
-- What a tenant of a tier is entitled to beside one of another tier: as in the claims (SHARES in claim.lua), where one in
-- 4 goes to default, one in 8 to flex and one in 16 to batch.
local ENTITLED = {priority = 45, default = 15, flex = 15 / 7, batch = 1}
local RANK = {}
for rank, tier in ipairs(TIERS) do RANK[tier] = rank end

local parties, list = {}, {}  -- the tenants of each tier that run jobs or wait: what they hold, and what waits

local function party_of(tier, tenant, weight)
  local name = tier .. ':' .. tenant
  if not parties[name] then
    parties[name] = {tier = tier, tenant = tenant, right = weight * ENTITLED[tier], held = 0, running = {}, waiting = {},
      waited = 0}
    list[#list + 1] = parties[name]
  end
  return parties[name]
end

local given = {}  -- jobs for which a slot is on its way
local function party_of_job(id)
  local job = redis.call('HMGET', job_key(id), 'tier', 'tenant', 'weight')
  return job[1] and party_of(job[1], job[2], tonumber(job[3]))
end

local function hold(id)
  local party = party_of_job(id)
  if party then party.held = party.held + 1 end
end

-- Whether the job is asked already, and for whom. Returns false if a slot is being freed for nobody in particular: then
-- whoever is first will have it, and it is too early to tell who is left to wait.
local function count_running(id, ready)
  local job = redis.call('HMGET', job_key(id), 'tier', 'tenant', 'weight', 'claimed', 'gave_way', 'preempt', 'successor',
    'cancel')
  if not job[1] then return true end
  if job[8] or job[6] and not job[7] then return false end
  if job[7] then
    given[job[7]] = true
    hold(job[7])
    return true
  end
  local party = party_of(job[1], job[2], tonumber(job[3]))
  party.held = party.held + 1
  local doublings = math.min(tonumber(job[5] or 0), MOST_DOUBLINGS)
  party.running[#party.running + 1] = {id = id, ready = ready, since = tonumber(job[4]), least = patience_ms * 2 ^ doublings,
    gave_way = tonumber(job[5] or 0)}
  return true
end

local function count_held()
  for _, worker in ipairs(redis.call('ZRANGE', LEASES_KEY, 0, -1)) do
    local ready = redis.call('HGET', worker_key(worker), 'state') == 'ready'
    for _, id in ipairs(redis.call('HKEYS', fences_key(worker))) do
      if not count_running(id, ready) then return false end
    end
    for _, entry in ipairs(redis.call('XRANGE', stream_key(inbox_name(worker)), '-', '+')) do hold(entry[2][2]) end
  end
  return true
end

local function wait(party, id, entry)
  if given[id] then return end
  party.waiting[#party.waiting + 1] = id
  party.waited = math.max(party.waited, NOW - tonumber(string.match(entry, '^%d+')))
end

-- Those that had begun come before the others of their tenant.
local function count_begun(stream)
  for _, entry in ipairs(redis.call('XRANGE', stream_key(stream), '-', '+', 'COUNT', MOST_TENANTS)) do
    local party = party_of_job(entry[2][2])
    if party then wait(party, entry[2][2], entry[1]) end
  end
end

local function count_backlogs(tier)
  for _, tenant in ipairs(redis.call('ZRANGE', tenants_key(tier), 0, MOST_TENANTS - 1)) do
    local oldest = redis.call('XRANGE', stream_key(backlog_name(tier, tenant)), '-', '+', 'COUNT', 1)[1]
    local party = oldest and party_of_job(oldest[2][2])
    for _, turn in ipairs(party and redis.call('ZRANGE', order_key(tier, tenant), 0, limit - 1) or {}) do
      wait(party, string.match(turn, ' (.+)$'), oldest[1])
    end
  end
end

-- How many times as long as usual must one have waited, and a job of the other have run? nil: it has no claim to it.
-- After a slot has gone over, whoever got it must still hold less for its right than the other did: so no two take slots
-- from each other in turn. Only who holds nothing at all takes turns with others, each for as long as its right says.
local function patience_factor(holder, waiting)
  if holder.tenant == waiting.tenant or holder.held == 0 then return nil end
  local above = holder.right / waiting.right
  if RANK[waiting.tier] > RANK[holder.tier] then return waiting.held == 0 and math.max(1, above) or nil end
  if waiting.held == 0 then return math.max(1, above / holder.held) end
  return (waiting.held + 1) / waiting.right < holder.held / holder.right and 1 or nil
end

local function got_further(job)
  if job.further == nil then job.further = made_progress(job.id) end
  return job.further
end

-- The job whose stop costs least: it gave way least often, and then the youngest. One that has not got further since it was
-- claimed would have run in vain.
local function youngest(holder, factor)
  local best
  for _, job in ipairs(holder.running) do
    local better = not best or job.gave_way < best.gave_way or job.gave_way == best.gave_way and job.since > best.since
    if job.ready and better and NOW - job.since >= job.least * factor and got_further(job) then best = job end
  end
  return best
end

-- The tenant that holds most for its right and has a job to stop.
local function find(waiting)
  local most, found
  for _, holder in ipairs(list) do
    local factor = patience_factor(holder, waiting)
    local kept = reserve_of(waiting.tier) > 0 and not LOWER[holder.tier]
    if factor and not kept and waiting.waited >= patience_ms * factor then
      local job = (not most or holder.held / holder.right > most.held / most.right) and youngest(holder, factor)
      if job then most, found = holder, job end
    end
  end
  return most, found
end

local function ask(id, tier, successor)
  if LOWER[tier] then redis.call('ZADD', running_key(tier), -NOW, id) end
  redis.call('HSET', job_key(id), 'preempt', NOW, 'successor', successor)
  fence(id)
  redis.call('PUBLISH', control_channel(redis.call('HGET', job_key(id), 'worker')), 'preempt ' .. id)
end

local function neediest()
  local best
  for _, party in ipairs(list) do
    local due = #party.waiting > 0 and party.waited >= patience_ms
    if due and (not best or party.held / party.right < best.held / best.right) then best = party end
  end
  return best
end

local function give(waiting, holder, job)
  local successor = table.remove(waiting.waiting, 1)
  ask(job.id, holder.tier, successor)
  holder.held, waiting.held = holder.held - 1, waiting.held + 1
  for at, each in ipairs(holder.running) do
    if each == job then table.remove(holder.running, at) break end
  end
end

local function oldest_is_due(stream)
  local oldest = redis.call('XRANGE', stream_key(stream), '-', '+', 'COUNT', 1)[1]
  return oldest and NOW - tonumber(string.match(oldest[1], '^%d+')) >= patience_ms
end

local function somebody_is_due()
  if oldest_is_due(RESUME) then return true end
  for _, tier in ipairs(TIERS) do
    if LOWER[tier] and oldest_is_due(resume_name(tier)) then return true end
    for _, tenant in ipairs(redis.call('ZRANGE', tenants_key(tier), 0, MOST_TENANTS - 1)) do
      if oldest_is_due(backlog_name(tier, tenant)) then return true end
    end
  end
end

if redis.call('EXISTS', COUNTED_KEY) == 1 or not somebody_is_due() then return 0 end
if grace_left(grace_ms) > 0 or not count_held() then return 0 end

count_begun(RESUME)
for _, tier in ipairs(TIERS) do
  if LOWER[tier] then count_begun(resume_name(tier)) end
  count_backlogs(tier)
end
for _, tier in ipairs(TIERS) do
  local free = #candidates(tier) > 0
  for _, party in ipairs(free and list or {}) do
    if party.tier == tier then party.waiting = {} end
  end
end

local asked = 0
for _ = 1, limit do
  local waiting = neediest()
  if not waiting then break end
  local holder, job = find(waiting)
  if job then
    give(waiting, holder, job)
    asked = asked + 1
  else
    waiting.waiting = {}
  end
end
if asked == 0 and pause_ms > 0 then redis.call('SET', COUNTED_KEY, 1, 'PX', pause_ms) end
return asked
