-- What one engine step made, for all its jobs: fence, log, publish. Resent, it changes nothing.
-- ARGV: worker, then for each job: id, lease, state ('' running | finished | failed), finish, usage JSON, tokens,
--       first seq, count, chunks...
-- Returns for each job {ok | fenced | behind | cancel | preempt, last seq}
local replies, frames, at = {}, {}, 2

local function announce(gateway, frame)
  local list = frames[gateway]
  if list then list[#list + 1] = frame else frames[gateway] = {frame} end
end

-- Chunks already logged are passed over, a gap is refused: the worker then sends again from the hole on.
local function log_chunks(id, lease, gateway, last, first, count, from)
  if first > last + 1 then return last, 'behind' end
  for i = 0, count - 1 do
    if first + i == last + 1 then
      last = last + 1
      write_chunk(id, last, ARGV[from + i])
      announce(gateway, frame_of(id, lease, last, ARGV[from + i]))
    end
  end
  return last, 'ok'
end

while at <= #ARGV do
  local id, lease, state, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 7])
  local job = redis.call('HMGET', job_key(id), 'lease', 'seq', 'gateway', 'cancel', 'state', 'preempt')
  local last, answer = tonumber(job[2] or 0), 'fenced'
  if job[1] == lease and job[5] == 'running' then
    local before = last
    last, answer = log_chunks(id, lease, job[3] or '', last, tonumber(ARGV[at + 6]), count, at + 8)
    if last > before then redis.call('HSET', job_key(id), 'seq', last, 'progress', NOW) end
    if state ~= '' and answer == 'ok' then
      settle(id, state, ARGV[at + 3], ARGV[at + 4], tonumber(ARGV[at + 5]))
    elseif job[4] then
      answer = 'cancel'
    elseif job[6] and answer == 'ok' then
      answer = 'preempt'
    end
  elseif job[1] == lease and state ~= '' then
    answer = 'ok'
  end
  replies[#replies + 1] = {answer, last}
  at = at + 8 + count
end

for gateway, list in pairs(frames) do publish(gateway, table.concat(list, ',')) end
return replies
