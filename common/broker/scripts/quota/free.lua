-- with quota
-- An object of a tenant was deleted: it counts no more. KEYS[1] is the tenant's own prefix.
-- ARGV: pool, id
drop(ARGV[1], ARGV[2])
return 1
