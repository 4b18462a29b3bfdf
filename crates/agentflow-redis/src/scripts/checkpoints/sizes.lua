-- Sizes of a thread's values and writes.
-- KEYS: blobs, writes. Returns field and bytes in turn, for each of both.
local all = {}
for i, key in ipairs(KEYS) do
  local sizes = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    sizes[#sizes + 1] = field
    sizes[#sizes + 1] = redis.call('HSTRLEN', key, field)
  end
  all[i] = sizes
end
return all
