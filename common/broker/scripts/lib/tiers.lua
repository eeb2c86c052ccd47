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

-- Whether there is any stream or tenant that a free slot may go to; asked in one command, because mostly there is none.
-- `...` are further streams.
local function anybody_waits(...)
  local places = {}
  for i, name in ipairs({...}) do places[i] = stream_key(name) end
  for _, tier in ipairs(TIERS) do
    places[#places + 1] = tenants_key(tier)
    if LOWER[tier] then places[#places + 1] = stream_key(resume_name(tier)) end
  end
  return redis.call('EXISTS', unpack(places)) > 0
end

-- Whether someone of this tier or a higher one waits already: then a free slot is theirs, its worker is about to claim.
local function others_wait(tier)
  if not anybody_waits(RESUME) then return false end
  if redis.call('EXISTS', stream_key(RESUME)) == 1 then return true end
  for _, name in ipairs(TIERS) do
    if tier_waits(name) then return true end
    if name == tier then return false end
  end
  return false
end
