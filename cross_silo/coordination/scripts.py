"""The Lua scripts of the job store: each is one atomic step in Redis (EVAL, "Atomicity of scripts")."""

UPDATE = """
-- KEYS: job. ARGV: ttl in ms, then field, value, ... -> 1; 0 where there is no such job
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local state = redis.call('HGET', KEYS[1], 'state')
local ended = state == 'finished' or state == 'failed' or state == 'stopped'
for i = 2, #ARGV, 2 do
  if not (ended and (ARGV[i] == 'state' or ARGV[i] == 'reason')) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""

END = """
-- KEYS: job. ARGV: ttl in ms, state, reason -> 1 for the first that ends it
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'finished' or state == 'failed' or state == 'stopped' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'reason', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""

ADD_ROUND = """
-- KEYS: stream. ARGV: ttl in ms, record. A command that is sent again because its reply was lost adds nothing
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if not last[1] or last[1][2][2] ~= ARGV[2] then
  redis.call('XADD', KEYS[1], '*', 'record', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""

LIST_MEMBERS = """
-- KEYS: set of nodes. ARGV: prefix of a member's key -> node, info, ... ; forgets those that expired
local found = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local info = redis.call('GET', ARGV[1] .. ':' .. node)
  if info then
    table.insert(found, node)
    table.insert(found, info)
  else
    redis.call('SREM', KEYS[1], node)
  end
end
return found
"""

ACQUIRE_LEASE = """
-- KEYS: lease, set of silos. ARGV: worker, info, ms, silo, the set's ms -> granted, holder, its info, its ms left
local holder = redis.call('HGET', KEYS[1], 'worker')
if holder and holder ~= ARGV[1] then
  return {0, holder, redis.call('HGET', KEYS[1], 'info'), redis.call('PTTL', KEYS[1])}
end
redis.call('HSET', KEYS[1], 'worker', ARGV[1], 'info', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {1, ARGV[1], ARGV[2], tonumber(ARGV[3])}
"""

RENEW_LEASE = """
-- KEYS: lease, set of silos. ARGV: worker, info, ms, silo, the set's ms -> 1 if the worker holds it
if redis.call('HGET', KEYS[1], 'worker') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'info', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
"""

RELEASE_LEASE = """
-- KEYS: lease, set of silos. ARGV: worker, silo -> 1 if the worker held it
if redis.call('HGET', KEYS[1], 'worker') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[2])
return 1
"""

LIST_LEASES = """
-- KEYS: set of silos. ARGV: prefix of a lease's key -> silo, worker, info, ms left, ... ; forgets expired ones
local found = {}
for _, silo in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local lease = redis.call('HMGET', ARGV[1] .. ':' .. silo, 'worker', 'info')
  if lease[1] then
    table.insert(found, silo)
    table.insert(found, lease[1])
    table.insert(found, lease[2])
    table.insert(found, redis.call('PTTL', ARGV[1] .. ':' .. silo))
  else
    redis.call('SREM', KEYS[1], silo)
  end
end
return found
"""
