-- Reads checkpoints of one thread with their values and writes.
-- KEYS: about, ids, rows, blobs, writes, tasks. ARGV: 'newest' and a namespace, or 'these' and
-- fields of checkpoints.
-- Returns for each that there is: its field, row, values in the order of the row, then fields and
-- values of its writes.
local _, ids, rows, blobs, writes, tasks = unpack(KEYS)
local function read(field)
  local row = redis.call('HGET', rows, field)
  if not row then return nil end
  local values, at, part, n = {}, 1, nil, 0
  while at <= #row do
    part, at = struct.unpack('>I4c0', row, at)
    n = n + 1
    if n > 4 then values[#values + 1] = redis.call('HGET', blobs, part) end
  end
  local names = redis.call('ZRANGE', tasks, '[' .. field .. '\0', '(' .. field .. '\1', 'BYLEX')
  local written = {}
  for i, name in ipairs(names) do written[i] = redis.call('HGET', writes, name) end
  return {field, row, values, names, written}
end
local fields = {unpack(ARGV, 2)}
if ARGV[1] == 'newest' then
  local ns = ARGV[2]
  fields = redis.call('ZRANGE', ids, '(' .. ns .. '\1', '[' .. ns .. '\0', 'BYLEX', 'REV',
    'LIMIT', 0, 1)
end
local found = {}
for _, field in ipairs(fields) do found[#found + 1] = read(field) end
return found
