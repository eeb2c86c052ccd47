-- with time, keys, fence, grace, requeue
-- Take a dead worker's work back, at most `limit` jobs a call: call again while it returns as many.
-- ARGV: worker ('' any whose lease ran out), force (1: whatever its lease says), attempts to count (0: it left in good
--       order), max attempts, grace ms, limit
-- Returns {grace, ms left} | {ok, jobs moved, worker ('' none was dead), done (1: the worker is gone)}
local worker, force, limit = ARGV[1], ARGV[2] == '1', tonumber(ARGV[6])
local attempts, max_attempts = tonumber(ARGV[3]), tonumber(ARGV[4])

if not force then
  local held_back = mercy_left(tonumber(ARGV[5]))
  if held_back > 0 then return {'grace', held_back} end
end
if worker == '' then
  worker = redis.call('ZRANGEBYSCORE', LEASES_KEY, '-inf', NOW, 'LIMIT', 0, 1)[1]
  if not worker then return {'ok', 0, '', 0} end
elseif not force then
  local lease_end = redis.call('ZSCORE', LEASES_KEY, worker)
  if not lease_end or tonumber(lease_end) > NOW then return {'ok', 0, '', 0} end
end
redis.call('ZADD', LEASES_KEY, 0, worker)

local moved = 0
for _, id in ipairs(redis.call('HRANDFIELD', fences_key(worker), limit)) do
  if redis.call('EXISTS', job_key(id)) == 1 then
    requeue(id, attempts, max_attempts, worker)
  else
    release(id, worker)
  end
  moved = moved + 1
end
moved = moved + empty_inbox(worker, limit - moved)

local done = moved < limit
if done then
  redis.call('ZREM', LEASES_KEY, worker)
  redis.call('ZREM', LOAD_KEY, worker)
  redis.call('DEL', worker_key(worker), fences_key(worker), stream_key(inbox_name(worker)))
end
return {'ok', moved, worker, done and 1 or 0}
