-- Puts an entry with the marks of the namespaces that it is in; makes marks that are missing.
-- KEYS: the entry, then the marks of its namespaces. ARGV: the value, until when it counts in
-- microseconds or nothing, time to live in ms, a new mark, and how long marks live in ms.
local marks = {}
for i = 2, #KEYS do
  local mark = redis.call('GET', KEYS[i]) or ARGV[4]
  redis.call('SET', KEYS[i], mark, 'PX', ARGV[5])
  marks[#marks + 1] = mark
end
redis.call('HSET', KEYS[1], 'marks', table.concat(marks, ','), 'until', ARGV[2], 'value', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
