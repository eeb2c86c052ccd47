-- with keys, tiers, chunks, fence, settle
-- rarely settle, note_reason
-- What one engine step made, for all its jobs: fence, log, publish. Resent, it changes nothing.
-- `first` is the seq of a job's first chunk, `ending` how it is settled, if it is: `state` is finished or failed, `usage` JSON.
-- argv: worker ids:list
-- each: lease first:number chunks:list ending(state finish usage tokens:number)
-- Returns {for each job {ok | fenced | lagging | cancel | preempt, last seq}, 1 if jobs ended and somebody waits who might
-- have their slots, else 0}
local replies, frames, ended = {}, {}, false

local function announce(gateways, frame)
  local list = frames[gateways]
  if list then list[#list + 1] = frame else frames[gateways] = {frame} end
end

-- Chunks already logged are passed over, a gap is refused: the worker then sends again from the hole on.
local function log_chunks(id, lease, gateways, last, first, from, to)
  if first > last + 1 then return last, 'lagging' end
  for i = from + last + 1 - first, to do
    last = last + 1
    write_chunk(id, last, ARGV[i])
    announce(gateways, frame_of(id, lease, last, ARGV[i]))
  end
  return last, 'ok'
end

-- Which workers wrote after they had lost a lease: of the last day, and of so many workers at most.
local FENCED_MS, FENCED_MOST = 86400000, 256

local function count_fenced(by)
  redis.call('HINCRBY', TALLY_KEY, 'fenced', 1)
  if redis.call('HLEN', FENCED_KEY) >= FENCED_MOST then redis.call('DEL', FENCED_KEY) end
  redis.call('HINCRBY', FENCED_KEY, by, 1)
  redis.call('PEXPIRE', FENCED_KEY, FENCED_MS)
end

-- Nobody can tell who is owed what for a job that somebody has deleted: its worker is free of it. A gateway that still has
-- it puts it back.
local LOST_MS = 600000

local function let_go(id)
  release(id, worker)
  redis.call('PEXPIRE', chunks_key(id), LOST_MS)
  return 'fenced'
end

local fences = redis.call('HMGET', fences_key(worker), unpack(ARGV, ids_from, ids_to))
for lease, first, chunks_from, chunks_to, state, finish, usage, tokens in each() do
  local at = #replies
  local id = ARGV[ids_from + at]
  local holder, gateways, wanted = read_fence(fences[at + 1] or mended_fence(id, worker, lease))
  local last, answer = seq_of(id), 'fenced'
  if holder == lease then
    last, answer = log_chunks(id, lease, gateways, last, first, chunks_from, chunks_to)
    if state and answer == 'ok' and redis.call('EXISTS', job_key(id)) == 0 then
      answer = let_go(id)
    elseif state and answer == 'ok' then
      settle(id, state, finish, usage, tokens)
      ended = true
      if state == 'failed' then note_reason(id) end
    elseif wanted == 'cancel' or (wanted == 'preempt' and answer == 'ok') then
      answer = wanted
    end
  elseif state and redis.call('HGET', job_key(id), 'lease') == lease then
    answer, ended = 'ok', true
  else
    count_fenced(worker)
  end
  replies[at + 1] = {answer, last}
end

for gateways, list in pairs(frames) do publish(gateways, table.concat(list, ',')) end
local waits = ended and (anybody_waits() or redis.call('EXISTS', stream_key(inbox_name(worker))) == 1)
return {replies, waits and 1 or 0}
