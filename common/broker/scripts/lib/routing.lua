-- with time, keys, tiers, chunks, fence, tenants, waiting
-- Where a job goes: to a worker with a free slot, by the model's policy, else among those that wait.

-- What a job demands of its worker: a context that holds it, and once it has tokens the fingerprint under which they
-- were made. A job with none of both suits any worker; so does a worker of which nothing is known.
local function demands_by(id, needs, seq)
  local demands = {room = tonumber(needs or 0), made_by = ''}
  if seq > 1 then
    local first = redis.call('XRANGE', chunks_key(id), '-', '+', 'COUNT', 1)[1]
    demands.made_by = string.match(first[2][2], '"fingerprint":"([^"]*)"') or ''
  end
  return demands
end

local function demands_of(id) return demands_by(id, redis.call('HGET', job_key(id), 'needs'), seq_of(id)) end

local function suits(worker, demands)
  if demands.room == 0 and demands.made_by == '' then return true end
  local card = redis.call('HMGET', worker_key(worker), 'context_length', 'fingerprint')
  local same = demands.made_by == '' or (card[2] or '') == '' or card[2] == demands.made_by
  return same and (not card[1] or tonumber(card[1]) >= demands.room)
end

local function suits_somebody(demands)
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', LEASES_KEY, '(' .. NOW, '+inf')) do
    if suits(worker, demands) then return true end
  end
  return false
end

-- The live, ready workers with a free slot for this tier that the demands suit. One whose speed is not measured yet counts as the fastest
-- known: counted as slow it would get no work, and so never be measured.
local function candidates(tier, not_this, demands)
  local loads, found, fastest = redis.call('ZRANGE', LOAD_KEY, 0, -1, 'WITHSCORES'), {}, 0
  local reserve, live = reserve_of(tier), {}
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', LEASES_KEY, '(' .. NOW, '+inf')) do live[worker] = true end
  for i = 1, #loads, 2 do
    local worker, load = loads[i], tonumber(loads[i + 1])
    if worker ~= not_this and live[worker] then
      local beat = redis.call('HMGET', worker_key(worker), 'slots', 'speed', 'state')
      local slots, speed = tonumber(beat[1] or 0), tonumber(beat[2] or 0)
      fastest = math.max(fastest, speed)
      local free = slots - load - math.min(reserve, slots - 1)
      if beat[3] == 'ready' and free > 0 and (not demands or suits(worker, demands)) then
        found[#found + 1] = {worker = worker, load = load, speed = speed, free = free}
      end
    end
  end
  for _, each in ipairs(found) do
    if each.speed <= 0 then each.speed = fastest > 0 and fastest or 1 end
  end
  return found
end

-- Who would be done first: least load / speed.
local function shortest(found)
  local best, best_cost
  for _, each in ipairs(found) do
    local cost = (each.load + 1) / each.speed
    if not best or cost < best_cost then best, best_cost = each.worker, cost end
  end
  return best
end

-- At random, by speed. (The server seeds its own random numbers alike for every script.)
local function lottery(found, id)
  local all, at = 0, tonumber(string.sub(redis.sha1hex(id .. CLOCK[2]), 1, 8), 16) / 2 ^ 32
  for _, each in ipairs(found) do all = all + each.speed end
  for _, each in ipairs(found) do
    at = at - each.speed / all
    if at <= 0 then return each.worker end
  end
  return found[#found].worker
end

-- Who lately served what this job begins with, the longest beginning first, unless it has more than `margin` jobs above
-- the least.
local function warm(found, affinity, kind, margin)
  local by_name, least = {}, math.huge
  for _, each in ipairs(found) do
    by_name[each.worker], least = each, math.min(least, each.load)
  end
  for key in string.gmatch(affinity, '%S+') do
    if kind == '' or string.sub(key, 1, 2) == kind then
      local each = by_name[redis.call('GET', warm_key(key)) or '']
      if each and each.load - least <= margin then return each.worker end
    end
  end
end

-- The worker of those found to hand a job to by the model's policy, nil if there is none.
local function pick_worker(id, affinity, found)
  if #found == 0 then return nil end
  local policy = redis.call('HMGET', POLICY_KEY, 'policy', 'margin')
  if policy[1] == 'lottery' then return lottery(found, id) end
  local kinds = {prefix = '', session = 's:'}
  local kind = kinds[policy[1] or '']
  return kind and affinity and warm(found, affinity, kind, tonumber(policy[2] or 4)) or shortest(found)
end

local function hand_to(id, worker)
  wait_in(id, inbox_name(worker))
  redis.call('ZINCRBY', LOAD_KEY, 1, worker)
end

-- An interactive job waits: the youngest running job of a lower tier is asked to give its slot back, once, unless it
-- runs on its tier's guaranteed share (both have their times negated). It goes on later, from its next token.
local function make_room()
  for _, tier in ipairs({'batch', 'flex'}) do
    local youngest = redis.call('ZREVRANGE', running_key(tier), 0, 0, 'WITHSCORES')
    local id, since = youngest[1], tonumber(youngest[2] or 0)
    if since > 0 then
      redis.call('ZADD', running_key(tier), -since, id)
      redis.call('HSET', job_key(id), 'preempt', NOW)
      fence(id)
      redis.call('PUBLISH', control_channel(redis.call('HGET', job_key(id), 'worker')), 'preempt ' .. id)
      return
    end
  end
end

-- Where a job waits that has begun.
local function resume_of(tier) return LOWER[tier] and resume_name(tier) or RESUME end

-- A job waits for one of the workers that it suits.
local function park(id)
  local job = redis.call('HMGET', job_key(id), 'tenant', 'bytes')
  wait_in(id, PARKED)
  count_waiting(job[1], 1, tonumber(job[2]))
end

-- Put a job among the others of its tenant, or if it has begun into the stream `before` them. The first of its tenant is
-- one that gave its slot up for another tenant's.
local function enqueue(id, before)
  local job = redis.call('HMGET', job_key(id), 'tenant', 'tier', 'bytes', 'deadline', 'gave_way')
  if before then
    wait_in(id, before)
  else
    join_tenants(job[2], job[1])
    local entry = wait_in(id, backlog_name(job[2], job[1]))
    redis.call('ZADD', order_key(job[2], job[1]), job[5] and 0 or job[4], turn_of(id, entry))
  end
  count_waiting(job[1], 1, tonumber(job[3]))
  if not LOWER[job[2]] then make_room() end
end
