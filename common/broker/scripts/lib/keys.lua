-- Every key and channel that a script touches, one a line; a script gets only the lines whose names it uses. Those that
-- Python touches are in keys.py too, and a test compares both with docs/protocol.md.
-- KEYS[1] is where all keys of one model, tenant, batch or API key begin, so that they lie in one cluster slot.
local P = KEYS[1]

-- ms:{model}:
local function job_key(job) return P .. 'job:' .. job end
local function chunks_key(job) return P .. 'chunks:' .. job end
local function tenants_key(tier) return P .. 'tenants:' .. tier end
local function served_key(tier) return P .. 'served:' .. tier end
local function clock_key(tier) return P .. 'clock:' .. tier end
local function order_key(tier, tenant) return P .. 'order:' .. tier .. ':' .. tenant end
local function running_key(tier) return P .. 'running:' .. tier end
local function warm_key(beginning) return P .. 'warm:' .. beginning end
local function fences_key(worker) return P .. 'fences:' .. worker end
local function worker_key(worker) return P .. 'worker:' .. worker end
local function follows_key(gateway) return P .. 'follows:' .. gateway end
local function idempotency_key(tenant, digest) return P .. 'idem:' .. tenant .. ':' .. digest end
local function usage_key(day) return P .. 'usage:' .. day end
local function ended_key(tenant) return P .. 'ended:' .. tenant end
local COUNTED_KEY = P .. 'counted'
local DEAD_KEY = P .. 'dead'
local ENDED_KEY = P .. 'ended'
local FENCED_KEY = P .. 'fenced'
local DEADLINES_KEY = P .. 'deadlines'
local GATEWAYS_KEY = P .. 'gateways'
local LEASES_KEY = P .. 'leases'
local LOAD_KEY = P .. 'load'
local OWED_KEY = P .. 'owed'
local POLICY_KEY = P .. 'policy'
local PREEMPTED_KEY = P .. 'preempted'
local SERVER_KEY = P .. 'server'
local TALLY_KEY = P .. 'tally'
local TURNS_KEY = P .. 'turns'
local WAITING_KEY = P .. 'waiting'

-- The streams of a model that jobs wait in. A job's `where` names its stream: the key without the prefix.
local RESUME = 'resume'
local SUSPECTS = 'resume:suspects'
local PARKED = 'resume:parked'
local function resume_name(tier) return 'resume:' .. tier end
local function backlog_name(tier, tenant) return 'backlog:' .. tier .. ':' .. tenant end
local function inbox_name(worker) return 'inbox:' .. worker end
local function stream_key(name) return P .. name end
local function is_backlog(name) return string.sub(name, 1, 8) == 'backlog:' end
local function inbox_owner(name) return string.match(name, '^inbox:(.+)$') end

-- ms:{tenant:<tenant>}:
local function record_key(kind, identity) return P .. kind .. ':' .. identity end
local function index_key(kind) return P .. 'index:' .. kind end
local function kept_key(pool) return P .. 'kept:' .. pool end
local function sizes_key(pool) return P .. 'sizes:' .. pool end

-- ms:{batch:<batch>}:
local STATE_KEY = P .. 'state'
local RESULTS_KEY = P .. 'results'
local PARTS_KEY = P .. 'parts'

-- ms:{account:<account>}:
local METER_KEY = P .. 'meter'
local OPEN_KEY = P .. 'open'
local REQUESTS_KEY = P .. 'requests'
local LAPSING_KEY = P .. 'lapsing'
local function spent_key(period) return P .. 'spent:' .. period end

-- Channels, which have no slot.
local function frames_channel(gateway) return 'ms:frames:' .. gateway end
local function control_channel(worker) return 'ms:control:' .. worker end
