-- Renews the idle time of a session and returns its fields; nil if there is none or it has ended.
-- KEYS: the session. ARGV: now in microseconds, longest time to live in ms.
local found = redis.call('HMGET', KEYS[1],
  'tenant', 'principal', 'data', 'created', 'used', 'idle', 'ends')
if not found[1] then return false end
local now, used = tonumber(ARGV[1]), tonumber(found[5])
local idle, ends = tonumber(found[6]), tonumber(found[7])
if now >= math.min(used + idle, ends) then return false end
if now > used then
  found[5] = ARGV[1]
  local left = math.ceil((math.min(now + idle, ends) - now) / 1000)
  redis.call('HSET', KEYS[1], 'used', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(left, tonumber(ARGV[2]))))
end
return found
