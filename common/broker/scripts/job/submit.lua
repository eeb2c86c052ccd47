-- with time, keys, tiers, chunks, position, waiting, routing, readers
-- rarely ahead_of, enqueue
-- One request's jobs enter, all or none. Ids were chosen by the caller, so sending it again changes nothing.
-- `idempotency_digest` and `account` (owed for) are '' for none, the bounds 0; `affinity` are keys separated by spaces, the
-- longest beginning first. `request` is JSON, `prefix` the chunks that a client of a lost job has.
-- argv: gateway tenant tier weight timeout_ms:number retention_ms resumable idempotency_digest fingerprint
-- argv: max_jobs:number max_bytes:number max_tenant_jobs:number max_tenant_bytes:number affinity account
-- each: id request grant prefix:list
-- Returns {routed, worker...} | {queued, position} | {duplicate, JSON of job ids} | {conflict} | {refused, why, jobs, bytes}
local deadline = NOW + timeout_ms

local all, jobs, ids, total_bytes = {}, {}, {}, 0
for id, request, grant, prefix_from, prefix_to in each() do
  local job = {id = id, request = request, grant = grant, prefix = {}}
  for i = prefix_from, prefix_to do job.prefix[#job.prefix + 1] = ARGV[i] end
  all[#all + 1], ids[#ids + 1] = job, id
end

-- A retry may come when one job of the first try has expired and another has not. What is settled is then made anew
-- beside what has expired, so that all can be read to the end; what is under way goes on.
local there = 0
for _, job in ipairs(all) do
  local known = redis.call('HMGET', job_key(job.id), 'state', 'settled')
  if known[1] then there = there + 1 end
  if known[2] or not known[1] then
    jobs[#jobs + 1], total_bytes = job, total_bytes + #job.request
  end
end
if there == #all then return {'duplicate', cjson.encode(ids)} end

local idem = idempotency_digest ~= '' and idempotency_key(tenant, idempotency_digest)
if idem then
  local known = redis.call('GET', idem)
  if known then
    known = cjson.decode(known)
    if known.fingerprint ~= fingerprint then return {'conflict'} end
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
  local names = {'jobs', 'bytes', 'tenant jobs', 'tenant bytes'}
  for i, bound in ipairs({max_jobs, max_bytes, max_tenant_jobs, max_tenant_bytes}) do
    local more = i % 2 == 1 and #jobs or total_bytes
    if bound > 0 and tonumber(now[i] or 0) + more > bound then return {'refused', names[i], now[1] or '0', now[2] or '0'} end
  end
end

if free_slots() < #jobs then
  local refused = refusal()
  if refused then return refused end
end

-- `...` are further fields.
local function create(job, ...)
  -- What is left of an earlier one goes, with the time that was left to it. A DEL for nothing would be a write, and a
  -- script that has written is not refused any more by a server whose memory is full.
  if redis.call('EXISTS', job_key(job.id), chunks_key(job.id)) > 0 then
    redis.call('DEL', job_key(job.id), chunks_key(job.id))
  end
  local fields = {'state', 'queued', 'lease', '', 'grant', job.grant, 'attempt', 0,
    'worker', '', 'gateway', gateway, 'tenant', tenant, 'tier', tier, 'weight', weight,
    'request', job.request, 'bytes', #job.request, 'submitted', NOW, 'deadline', deadline,
    'retention', retention_ms, 'resumable', resumable, ...}
  for field, value in pairs({affinity = affinity, account = account}) do
    if value ~= '' then fields[#fields + 1], fields[#fields + 2] = field, value end
  end
  redis.call('HSET', job_key(job.id), unpack(fields))
  for seq, chunk in ipairs(job.prefix) do write_chunk(job.id, seq, chunk) end
  redis.call('ZADD', DEADLINES_KEY, deadline, job.id)
  follow(gateway, job.id)
end

local reply, first = {'routed'}, nil
for _, job in ipairs(jobs) do
  local worker = not waits and pick_worker(job.id, affinity, found)
  if worker then
    create(job, 'where', inbox_name(worker), 'entry', put_in(job.id, inbox_name(worker)))
    redis.call('ZINCRBY', LOAD_KEY, 1, worker)
    take_slot(worker)
    reply[#reply + 1] = worker
  else
    create(job)
    enqueue(job.id, #job.prefix > 0 and resume_of(tier))
    first, waits = first or job.id, true
  end
end
if first then reply = {'queued', ahead_of(first, {}) + 1} end
if idem then
  redis.call('SET', idem, cjson.encode({jobs = ids, fingerprint = fingerprint}), 'PX', timeout_ms + tonumber(retention_ms))
end
return reply
