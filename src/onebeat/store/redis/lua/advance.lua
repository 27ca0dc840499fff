-- args: the transitions, each a move's name and what it needs, and the event that it leaves.
local wrong = wrong_place()
if wrong then
  return wrong
end

-- Every run is looked at before the first is moved.
for _, step in ipairs(args[1]) do
  run_of(step.run_id)
end

local answers = {}
for index, step in ipairs(args[1]) do
  local run = run_of(step.run_id)
  local changes = run and MOVES[step.kind](run, step)
  local answer = 'refused'
  if changes == 'repeated' then
    answer = 'repeated'
  elseif changes then
    answer = 'accepted'
    change(run, changes)
    if step.event then
      tell(unpack(step.event, 1, 5))
    end
    if FINISHED[run.state] then
      promote(run.schedule_id)
    end
  end
  local token = answer == 'accepted' and (step.kind == 'guard' or step.kind == 'renew') and run.token or '0'
  answers[index] = {answer, run and run.state or '', token, run and run.cancel_requested or ''}
end
return {answers, finish()}
