-- Where a job stands in its queue.
-- ARGV: id
-- Returns {state ('missing' if there is no such job), jobs ahead of it, live workers}
local state = redis.call('HGET', job_key(ARGV[1]), 'state') or 'missing'
local live = redis.call('ZCOUNT', P .. 'leases', '(' .. NOW, '+inf')
return {state, state == 'queued' and ahead_of(ARGV[1]) or 0, live}
