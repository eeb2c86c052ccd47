-- with keys, chunks, fence, settle
-- What one engine step made, for all its jobs: fence, log, publish. Resent, it changes nothing.
-- ARGV: worker, count of jobs, their ids, then for each job: lease, first seq, count of chunks, chunks...,
--       state ('' running | finished | failed), and if that is not '': finish, usage JSON, tokens
-- Returns for each job {ok | fenced | behind | cancel | preempt, last seq}
local worker, jobs = ARGV[1], tonumber(ARGV[2])
local replies, frames, at = {}, {}, 3 + jobs

local function announce(gateways, frame)
  local list = frames[gateways]
  if list then list[#list + 1] = frame else frames[gateways] = {frame} end
end

-- Chunks already logged are passed over, a gap is refused: the worker then sends again from the hole on.
local function log_chunks(id, lease, gateways, last, first, count, from)
  if first > last + 1 then return last, 'behind' end
  for i = last - first + 1, count - 1 do
    last = last + 1
    write_chunk(id, last, ARGV[from + i])
    announce(gateways, frame_of(id, lease, last, ARGV[from + i]))
  end
  return last, 'ok'
end

local fences = redis.call('HMGET', fences_key(worker), unpack(ARGV, 3, 2 + jobs))
for i = 1, jobs do
  local id, lease, count, from = ARGV[2 + i], ARGV[at], tonumber(ARGV[at + 2]), at + 3
  local holder, gateways, wanted = read_fence(fences[i])
  local state, ending = ARGV[from + count], from + count + 1
  local last, answer = seq_of(id), 'fenced'
  if holder == lease then
    last, answer = log_chunks(id, lease, gateways, last, tonumber(ARGV[at + 1]), count, from)
    if state ~= '' and answer == 'ok' then
      settle(id, state, ARGV[ending], ARGV[ending + 1], tonumber(ARGV[ending + 2]))
    elseif wanted == 'cancel' or (wanted == 'preempt' and answer == 'ok') then
      answer = wanted
    end
  elseif state ~= '' and redis.call('HGET', job_key(id), 'lease') == lease then
    answer = 'ok'
  end
  replies[i] = {answer, last}
  at = state == '' and ending or ending + 3
end

for gateways, list in pairs(frames) do publish(gateways, table.concat(list, ',')) end
return replies
