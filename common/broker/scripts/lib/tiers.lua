-- with keys
-- The tiers, the highest first, and who of them waits.
local TIERS = {'priority', 'default', 'flex', 'batch'}
local LOWER = {flex = true, batch = true}  -- they give way to the others, mid-stream if need be

-- Slots of each worker kept free of lower tiers; one always remains for them.
local function reserve_of(tier)
  return LOWER[tier] and tonumber(redis.call('HGET', POLICY_KEY, 'reserve') or 0) or 0
end

local function tier_waits(tier)
  if LOWER[tier] and redis.call('EXISTS', stream_key(resume_name(tier))) == 1 then return true end
  return redis.call('EXISTS', tenants_key(tier)) == 1
end

-- Whether any job waits that no worker has in its inbox: whoever enters the queue and leaves it is counted.
local function anybody_waits() return redis.call('EXISTS', WAITING_KEY) == 1 end

-- Whether someone of this tier or a higher one waits already: then a free slot is theirs, its worker is about to claim.
local function others_wait(tier)
  if not anybody_waits() then return false end
  if redis.call('EXISTS', stream_key(RESUME)) == 1 then return true end
  for _, name in ipairs(TIERS) do
    if tier_waits(name) then return true end
    if name == tier then return false end
  end
  return false
end
