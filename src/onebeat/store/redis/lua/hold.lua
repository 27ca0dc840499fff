-- args: the hold that is wanted as a document (or nil), the id of the edit, who and why of the hold.
local wanted, edit_id, actor, reason = unpack(args, 1, 4)
local seen = call('HGET', ns .. 'holds', edit_id)
if seen then
  return {seen, 0}
end
local wrong = wrong_place()
if wrong then
  return wrong
end

local held = call('HGET', META, 'hold')
call('HSET', ns .. 'holds', edit_id, held or '')
if wanted and not held then
  call('HSET', META, 'hold', wanted)
  tell({'at', now, 'kind', 'firing.held', 'actor', actor, 'reason', reason})
elseif held and not wanted then
  local was = cjson.decode(held)
  call('HDEL', META, 'hold')
  tell({'at', now, 'kind', 'firing.released', 'actor', was.actor or '', 'reason', was.reason or ''})
end
return {held or '', finish()}
