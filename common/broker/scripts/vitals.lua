-- A look at a model's workers and queue, all of one moment.
-- Returns {now ms, jobs waiting, {worker, lease end...}, {worker, load...}}
return {
  tostring(NOW),
  redis.call('HGET', P .. 'waiting', 'jobs') or '0',
  redis.call('ZRANGE', P .. 'leases', 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', P .. 'load', 0, -1, 'WITHSCORES'),
}
