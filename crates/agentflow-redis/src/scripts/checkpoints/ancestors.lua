-- Reads the ancestors of a checkpoint, the parent first, without the values that stand apart.
-- KEYS: about, ids, rows, blobs, writes, tasks. ARGV: a namespace, an id or nothing for the newest,
-- how many.
-- Returns for each its field and row, then fields and values of its writes.
local _, ids, rows, _, writes, tasks = unpack(KEYS)
local ns, id = ARGV[1], ARGV[2]
if id == '' then
  local newest = redis.call('ZRANGE', ids, '(' .. ns .. '\1', '[' .. ns .. '\0', 'BYLEX', 'REV',
    'LIMIT', 0, 1)
  if not newest[1] then return {} end
  id = string.sub(newest[1], #ns + 2)
end
local found = {}
local row = redis.call('HGET', rows, ns .. '\0' .. id)
while row and #found < tonumber(ARGV[3]) do
  local parent = struct.unpack('>I4c0', row, 1)
  if parent == '' then break end
  local field = ns .. '\0' .. parent
  row = redis.call('HGET', rows, field)
  if row then
    local names = redis.call('ZRANGE', tasks, '[' .. field .. '\0', '(' .. field .. '\1', 'BYLEX')
    local written = {}
    for i, name in ipairs(names) do written[i] = redis.call('HGET', writes, name) end
    found[#found + 1] = {field, row, names, written}
  end
end
return found
