-- Reads an entry whose marks are those of all namespaces that it is in.
-- KEYS: the entry, then the marks of its namespaces. ARGV: now in microseconds.
local found = redis.call('HMGET', KEYS[1], 'marks', 'until', 'value')
if not found[3] then return false end
if found[2] ~= '' and tonumber(ARGV[1]) >= tonumber(found[2]) then return false end
local marks = {}
for i = 2, #KEYS do
  local mark = redis.call('GET', KEYS[i])
  if not mark then return false end
  marks[#marks + 1] = mark
end
if table.concat(marks, ',') ~= found[1] then return false end
return found[3]
