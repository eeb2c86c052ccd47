-- with time, keys, fence, grace, requeue
-- Take a dead worker's work back, at most `limit` jobs a call: call again while it returns as many.
-- `worker` is '' for any whose lease ran out; `force` is 1 to evict it whatever its lease says; `attempts` to count are 0
-- if it left in good order.
-- argv: worker force attempts:number max_attempts:number grace_ms:number limit:number
-- Returns {grace, ms left} | {ok, jobs moved, worker ('' none was dead), done (1: the worker is gone)}
local forced = force == '1'
if not forced then
  local held_back = mercy_left(grace_ms)
  if held_back > 0 then return {'grace', held_back} end
end
if worker == '' then
  worker = redis.call('ZRANGEBYSCORE', LEASES_KEY, '-inf', NOW, 'LIMIT', 0, 1)[1]
  if not worker then return {'ok', 0, '', 0} end
elseif not forced then
  local lease_end = redis.call('ZSCORE', LEASES_KEY, worker)
  if not lease_end or tonumber(lease_end) > NOW then return {'ok', 0, '', 0} end
end
redis.call('ZADD', LEASES_KEY, 0, worker)

local moved = 0
for _, id in ipairs(redis.call('HRANDFIELD', fences_key(worker), limit)) do
  if redis.call('EXISTS', job_key(id)) == 1 then
    requeue(id, attempts, max_attempts, worker, false, attempts > 0)
  else
    release(id, worker)
  end
  moved = moved + 1
end
moved = moved + empty_inbox(worker, limit - moved)

local done = moved < limit
if done then
  redis.call('ZREM', LEASES_KEY, worker)
  if redis.call('ZREM', LOAD_KEY, worker) == 1 then
    local cause = not forced and 'lease' or attempts > 0 and 'died' or 'left'
    redis.call('HINCRBY', TALLY_KEY, 'evicted:' .. cause, 1)
  end
  redis.call('DEL', worker_key(worker), fences_key(worker), stream_key(inbox_name(worker)))
end
return {'ok', moved, worker, done and 1 or 0}
