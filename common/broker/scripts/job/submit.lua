-- with time, keys, tiers, chunks, position, routing, readers
-- One request's jobs enter, all or none. Ids were chosen by the caller, so sending it again changes nothing.
-- ARGV: gateway, tenant, tier, weight, timeout ms, retention ms, resumable, idempotency digest ('' none), fingerprint,
--       max jobs, max bytes, max tenant jobs, max tenant bytes (0: no bound), affinity keys (longest beginning first),
--       account ('' none) owed for, count, then for each job:
--       id, request JSON, grant, prefix length, prefix chunks...
-- Returns {routed, worker...} | {queued, position} | {duplicate, JSON of job ids} | {conflict} | {refused, why, jobs, bytes}
local gateway, tenant, tier = ARGV[1], ARGV[2], ARGV[3]
local deadline, retention = NOW + tonumber(ARGV[5]), ARGV[6]

local affinity, account = ARGV[14], ARGV[15]

local jobs, ids, at, total_bytes = {}, {}, 17, 0
for _ = 1, tonumber(ARGV[16]) do
  local job = {id = ARGV[at], request = ARGV[at + 1], grant = ARGV[at + 2], prefix = {}}
  for i = 1, tonumber(ARGV[at + 3]) do job.prefix[i] = ARGV[at + 3 + i] end
  at = at + 4 + #job.prefix
  total_bytes = total_bytes + #job.request
  jobs[#jobs + 1], ids[#ids + 1] = job, job.id
end

if redis.call('EXISTS', job_key(jobs[1].id)) == 1 then return {'duplicate', cjson.encode(ids)} end

local idem = ARGV[8] ~= '' and idempotency_key(tenant, ARGV[8])
if idem then
  local known = redis.call('GET', idem)
  if known then
    known = cjson.decode(known)
    if known.fingerprint ~= ARGV[9] then return {'conflict'} end
    return {'duplicate', cjson.encode(known.jobs)}
  end
end

-- All jobs are checked against the room left, before any is written.
local waits = others_wait(tier)
local found = waits and {} or candidates(tier)

local function free_slots()
  local free = 0
  for _, each in ipairs(found) do free = free + each.free end
  return free
end

local function take_slot(worker)
  for i, each in ipairs(found) do
    if each.worker == worker then
      each.load, each.free = each.load + 1, each.free - 1
      if each.free == 0 then table.remove(found, i) end
      return
    end
  end
end

local function refusal()
  local now = redis.call('HMGET', WAITING_KEY, 'jobs', 'bytes', 'jobs:' .. tenant, 'bytes:' .. tenant)
  local bounds = {'jobs', 'bytes', 'tenant jobs', 'tenant bytes'}
  for i, name in ipairs(bounds) do
    local bound, more = tonumber(ARGV[9 + i]), i % 2 == 1 and #jobs or total_bytes
    if bound > 0 and tonumber(now[i] or 0) + more > bound then return {'refused', name, now[1] or '0', now[2] or '0'} end
  end
end

if free_slots() < #jobs then
  local refused = refusal()
  if refused then return refused end
end

local function create(job)
  redis.call('HSET', job_key(job.id), 'state', 'queued', 'lease', '', 'grant', job.grant, 'attempt', 0,
    'worker', '', 'gateway', gateway, 'tenant', tenant, 'tier', tier, 'weight', ARGV[4],
    'request', job.request, 'bytes', #job.request, 'submitted', NOW, 'deadline', deadline,
    'retention', retention, 'resumable', ARGV[7])
  if affinity ~= '' then redis.call('HSET', job_key(job.id), 'affinity', affinity) end
  if account ~= '' then redis.call('HSET', job_key(job.id), 'account', account) end
  for seq, chunk in ipairs(job.prefix) do write_chunk(job.id, seq, chunk) end
  redis.call('ZADD', DEADLINES_KEY, deadline, job.id)
  follow(gateway, job.id)
end

local reply, first = {'routed'}, nil
for _, job in ipairs(jobs) do
  create(job)
  local worker = not waits and pick_worker(job.id, affinity, found)
  if worker then
    hand_to(job.id, worker)
    take_slot(worker)
    reply[#reply + 1] = worker
  else
    enqueue(job.id, #job.prefix > 0)
    first, waits = first or job.id, true
  end
end
if first then reply = {'queued', ahead_of(first, {}) + 1} end
if idem then
  redis.call('SET', idem, cjson.encode({jobs = ids, fingerprint = ARGV[9]}), 'PX', tonumber(ARGV[5]) + tonumber(retention))
end
return reply
