-- with time, keys, requeue
-- The holder of a job that has no tokens yet gives it to a worker with a longer context: it needs `room` tokens.
-- argv: worker id lease room:number
-- Returns {queued} | {fenced} | {none, the longest context of a live worker}
local longest = 0
for _, each in ipairs(redis.call('ZRANGEBYSCORE', LEASES_KEY, '(' .. NOW, '+inf')) do
  longest = math.max(longest, tonumber(redis.call('HGET', worker_key(each), 'context_length') or 0))
end
if longest < room then return {'none', longest} end
local before = redis.call('HMGET', job_key(id), 'lease', 'needs')
if before[1] ~= lease then return {'fenced'} end
redis.call('HSET', job_key(id), 'needs', math.max(room, tonumber(before[2] or 0)))
return {give_back(worker, id, lease)}
