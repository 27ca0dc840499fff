-- args: the events, each: names and values, schedule id, schedule, run, whether it covers an interval.
local wrong = wrong_place()
if wrong then
  return wrong
end
for _, event in ipairs(args[1]) do
  tell(unpack(event, 1, 5))
end
return finish()
