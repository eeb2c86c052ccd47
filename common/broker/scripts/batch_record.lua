-- The answers of lines, each counted once however often it is told.
-- ARGV: grant, then for each: line, completed | failed, JSON
-- Returns 1 | 0 (fenced)
local state, results = P .. 'state', P .. 'results'
local known = redis.call('HMGET', state, 'grant', 'flushed', 'status')
if known[1] ~= ARGV[1] then return 0 end
for at = 2, #ARGV, 3 do
  if tonumber(ARGV[at]) >= tonumber(known[2]) and redis.call('HSETNX', results, ARGV[at], ARGV[at + 2]) == 1 then
    redis.call('HINCRBY', state, ARGV[at + 1], 1)
  end
end
if redis.call('PTTL', results) == -1 then redis.call('PEXPIRE', results, redis.call('PTTL', state)) end
return 1
