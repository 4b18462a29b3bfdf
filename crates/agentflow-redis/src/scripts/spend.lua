-- Takes from a quota.
-- KEYS: the quota. ARGV: now in microseconds, how much, the limit, until when if it is new, and
-- the longest time to live in ms.
-- Returns 1 or 0, what is spent, and until when it counts.
local found = redis.call('HMGET', KEYS[1], 'spent', 'until')
local now, n = tonumber(ARGV[1]), tonumber(ARGV[2])
local spent, till = 0, ARGV[4]
if found[1] and now < tonumber(found[2]) then
  spent, till = tonumber(found[1]), found[2]
end
local granted = 0
if n > 0 and spent + n <= tonumber(ARGV[3]) then
  granted, spent = 1, spent + n
  redis.call('HSET', KEYS[1], 'spent', string.format('%.0f', spent), 'until', till)
  local ttl = math.max(1, math.ceil((tonumber(till) - now) / 1000))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(ttl, tonumber(ARGV[5]))))
end
return {granted, string.format('%.0f', spent), till}
