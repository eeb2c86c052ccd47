-- with keys, chunks
-- Jobs on their last try: their workers died again and again before they got further. A worker has one of them at a time
-- until it got further, so that the one that kills workers cannot take the others with it.
local function holds_suspect(worker)
  local id = redis.call('HGET', worker_key(worker), 'suspect')
  if not id then return false end
  local job = redis.call('HMGET', job_key(id), 'worker', 'state', 'where')
  return job[3] == inbox_name(worker) or job[1] == worker and job[2] == 'running' and not made_progress(id)
end

-- The worker is the one that has the suspect now.
local function entrust(id, worker) redis.call('HSET', worker_key(worker), 'suspect', id) end
