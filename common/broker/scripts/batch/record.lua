-- with keys
-- The answers of lines, each counted once however often it is told.
-- `outcome` is completed or failed, `answer` is JSON with a sign before it.
-- argv: grant
-- each: line:number outcome answer
-- Returns 1 | 0 (fenced)
local known = redis.call('HMGET', STATE_KEY, 'grant', 'flushed', 'status')
if known[1] ~= grant then return 0 end
for line, outcome, answer in each() do
  if line >= tonumber(known[2]) and redis.call('HSETNX', RESULTS_KEY, line, answer) == 1 then
    redis.call('HINCRBY', STATE_KEY, outcome, 1)
  end
end
if redis.call('PTTL', RESULTS_KEY) == -1 then redis.call('PEXPIRE', RESULTS_KEY, redis.call('PTTL', STATE_KEY)) end
return 1
