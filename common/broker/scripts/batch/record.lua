-- with keys
-- The answers of lines, each counted once however often it is told.
-- ARGV: grant, then for each: line, completed | failed, JSON
-- Returns 1 | 0 (fenced)
local known = redis.call('HMGET', STATE_KEY, 'grant', 'flushed', 'status')
if known[1] ~= ARGV[1] then return 0 end
for at = 2, #ARGV, 3 do
  if tonumber(ARGV[at]) >= tonumber(known[2]) and redis.call('HSETNX', RESULTS_KEY, ARGV[at], ARGV[at + 2]) == 1 then
    redis.call('HINCRBY', STATE_KEY, ARGV[at + 1], 1)
  end
end
if redis.call('PTTL', RESULTS_KEY) == -1 then redis.call('PEXPIRE', RESULTS_KEY, redis.call('PTTL', STATE_KEY)) end
return 1
