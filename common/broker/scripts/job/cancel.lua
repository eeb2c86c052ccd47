-- with time, keys, fence, readers, settle
-- Stop jobs: one that waits is settled at once, a running one is flagged and its worker told.
-- `tenant` is '' for any; `gateway` is the one whose reader has gone, '' to stop them whoever reads.
-- argv: tenant gateway ids:list
-- Returns the state of each: cancelled | cancelling | its settled state | missing | read (at another gateway)
local replies = {}
for i = ids_from, ids_to do
  local id = ARGV[i]
  local job = redis.call('HMGET', job_key(id), 'state', 'worker', 'tenant')
  local answer = job[1] or 'missing'
  if tenant ~= '' and job[3] ~= tenant then answer = 'missing' end
  if gateway ~= '' and (answer == 'queued' or answer == 'running') and read_elsewhere(id, gateway) then answer = 'read' end
  if answer == 'queued' then
    settle_with_error(id, 'cancelled', 'cancelled', 'The request was cancelled.')
    answer = 'cancelled'
  elseif answer == 'running' then
    redis.call('HSET', job_key(id), 'cancel', NOW)
    fence(id)
    redis.call('PUBLISH', control_channel(job[2]), 'cancel ' .. id)
    answer = 'cancelling'
  end
  replies[#replies + 1] = answer
end
return replies
