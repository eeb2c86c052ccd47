-- with keys, tiers, waiting
-- Where a job stands in the queue.
local LOOK = 100  -- tenants that a look at the queue counts one by one; it is an estimate beyond

-- How many waiting jobs come before this one, as far as can be told now: all above its tier, and of its own tier, where
-- tenants take turns, as many of each other tenant as there are of its own. `seen`: what this script call has looked up
-- before, if it asks for several jobs and changes nothing meanwhile.
local function ahead_of(id, seen)
  local job = redis.call('HMGET', job_key(id), 'where', 'entry', 'tier', 'tenant')
  local where, ahead = job[1], 0
  if not where or inbox_owner(where) then return 0 end
  local function once(command, key, ...)
    local found = seen[key] or redis.call(command, key, ...)
    seen[key] = found
    return found
  end
  local function in_stream(name)
    if name == where then return #redis.call('XRANGE', stream_key(name), '-', job[2], 'COUNT', 1000) - 1 end
    return once('XLEN', stream_key(name))
  end
  local function in_tier(tier, most_each)
    for _, tenant in ipairs(once('ZRANGE', tenants_key(tier), 0, LOOK - 1)) do
      local backlog = stream_key(backlog_name(tier, tenant))
      if not most_each then
        ahead = ahead + once('XLEN', backlog)
      elseif tenant ~= job[4] then
        ahead = ahead + math.min(most_each, once('XLEN', backlog))
      end
    end
  end
  ahead = in_stream(RESUME)
  if where == RESUME or where == SUSPECTS or where == PARKED then return ahead end
  for _, tier in ipairs(TIERS) do
    if LOWER[tier] then ahead = ahead + in_stream(resume_name(tier)) end
    if tier == job[3] then break end
    in_tier(tier)
  end
  if not is_backlog(where) then return ahead end
  local rank = redis.call('ZRANK', order_key(job[3], job[4]), turn_of(id, job[2])) or 0
  in_tier(job[3], rank + 1)
  return ahead + rank
end
