-- with time, keys, fence
-- An operator asks for a running job back: its worker gives it up as if it were preempted, and it goes on elsewhere (or
-- here again), from its next token.
-- `tenant` is '' for any.
-- argv: tenant id
-- Returns requeueing | its state, which is queued or settled | missing
local job = redis.call('HMGET', job_key(id), 'state', 'worker', 'tenant')
if not job[1] or (tenant ~= '' and job[3] ~= tenant) then return 'missing' end
if job[1] ~= 'running' then return job[1] end
redis.call('HSET', job_key(id), 'preempt', NOW)
fence(id)
redis.call('PUBLISH', control_channel(job[2]), 'preempt ' .. id)
return 'requeueing'
