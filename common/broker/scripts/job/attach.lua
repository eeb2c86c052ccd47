-- with keys, chunks, fence, readers, requeue
-- A gateway takes over the stream of a job: a client reconnected, or the server came back from a restart. What a client
-- has received is the truth: chunks this server lost are put back, an owner that did not make them is fenced.
-- `seen` is the lease that made the last chunk seen, '' if none was; `delivered` the last seq delivered, `last` the chunk
-- at it, '' if it is not known; `first` the seq of the first of the chunks given.
-- argv: id gateway tenant seen delivered:number last first:number chunks:list
-- Returns {missing} | {lost, seq} | {ok, state, seq, lease}; the lease of a queued job is the next one's beginning
local job = redis.call('HMGET', job_key(id), 'state', 'lease', 'grant', 'gateway', 'tenant')
if not job[1] or job[5] ~= tenant then return {'missing'} end

local state, seq, grant = job[1], seq_of(id), tonumber(job[3])
local live = state == 'queued' or state == 'running'
local log = chunks_key(id)
local seen_grant = tonumber(string.match(seen, '^%d+') or 0)

-- Another worker went on from a log that had lost its end, and this gateway comes only now.
local function parted()
  if delivered == 0 or delivered > seq or last == '' then return false end
  local entry = redis.call('XRANGE', log, '0-' .. delivered, '0-' .. delivered)[1]
  return not entry or entry[2][2] ~= last
end

-- From `first` on the log is written anew, as it was delivered.
local function put_back()
  local kept = redis.call('XRANGE', log, '-', '0-' .. (first - 1))
  redis.call('DEL', log)
  for seq_kept, entry in ipairs(kept) do write_chunk(id, seq_kept, entry[2][2]) end
  for i = chunks_from, chunks_to do write_chunk(id, first + i - chunks_from, ARGV[i]) end
end

local restore = delivered > seq or parted()
if restore then
  local count = chunks_to - chunks_from + 1
  if not live or count == 0 or first > seq + 1 or first + count - 1 < delivered then return {'lost', seq} end
  put_back()
end

if live then
  if job[4] ~= gateway then
    unfollow(job[4], id)
    redis.call('HSET', job_key(id), 'gateway', gateway, 'earlier', job[4])
    fence(id)
  end
  follow(gateway, id)
end

-- Whoever holds the job by an older lease, or went on without those chunks, must not go on.
if live and (grant < seen_grant or (restore and job[2] ~= seen)) then
  redis.call('HSET', job_key(id), 'grant', math.max(grant, seen_grant))
  if state == 'running' then requeue(id, 0, 0, '', false, true) end
end

local now = redis.call('HMGET', job_key(id), 'state', 'lease', 'grant')
return {'ok', now[1], seq_of(id), lease_seen(now[2], now[3])}
