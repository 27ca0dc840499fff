-- args: the name of who reads; how far it has come (or nil).
local name, to = args[1], args[2]
local stands = call('HGET', ns .. 'cursors', name) or to or call('HGET', META, 'last_event') or '0'
if to and tonumber(to) > tonumber(stands) then
  stands = to
end
call('HSET', ns .. 'cursors', name, stands)
return stands
