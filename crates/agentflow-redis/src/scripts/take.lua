-- Takes from a bucket that is full again at a moment (generic cell rate algorithm).
-- KEYS: the bucket. ARGV: now, how long what is taken needs to come back, how long an empty
-- bucket needs, in microseconds.
-- Returns 1 or 0, and the moment at which the bucket is full.
local now, taken, capacity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
local start = math.max(full, now)
local granted = 0
if taken > 0 and start + taken <= now + capacity then
  granted, full = 1, start + taken
  local ttl = math.max(1, math.ceil((full - now) / 1000))
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', string.format('%.0f', ttl))
end
return {granted, string.format('%.0f', full)}
