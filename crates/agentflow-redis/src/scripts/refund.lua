-- Gives back to a quota that is not over.
-- KEYS: the quota. ARGV: now in microseconds, how much.
local found = redis.call('HMGET', KEYS[1], 'spent', 'until')
if found[1] and tonumber(ARGV[1]) < tonumber(found[2]) then
  local spent = math.max(0, tonumber(found[1]) - tonumber(ARGV[2]))
  redis.call('HSET', KEYS[1], 'spent', string.format('%.0f', spent))
end
return 1
