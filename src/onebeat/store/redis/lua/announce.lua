-- args: the node's id, when it was seen, the names and values of its row. Returns the nodes that are alive.
local id, seen_at, fields = unpack(args, 1, 3)
call('DEL', ns .. 'node:' .. id)
call('HSET', ns .. 'node:' .. id, unpack(fields))
call('ZADD', ns .. 'nodes', seen_at, id)
local alive = {}
for _, other in ipairs(call('ZREVRANGE', ns .. 'nodes', 0, -1)) do
  local till = call('HGET', ns .. 'node:' .. other, 'alive_until')
  if other ~= id and till and tonumber(till) > clock then
    alive[#alive + 1] = all('node:' .. other)
  end
end
return alive
