-- with time
-- Days and months (UTC).

-- Years, months and days from the days since 1970 (Howard Hinnant's algorithm).
local function civil(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - math.floor((153 * mp + 2) / 5) + 1
end

local TODAY = math.floor(NOW / 86400000)

local function today()
  local year, month, day = civil(TODAY)
  return string.format('%04d-%02d-%02d', year, month, day), string.format('%04d-%02d', year, month)
end

-- Days until the next month begins, today included.
local function days_left()
  local _, month = civil(TODAY)
  for days = 1, 31 do
    local _, then_month = civil(TODAY + days)
    if then_month ~= month then return days end
  end
end
