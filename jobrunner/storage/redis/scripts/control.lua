-- What clients tell supervisors: pauses and revocations.

local function move_version()
  call('SET', P .. 'control', int(tonumber(call('GET', P .. 'control') or '1') + 1))
  dirty, rings = true, true
end

function operations.mark()
  call('HSET', P .. request.key, request.target, request.text)
  dirty, rings = true, true
  if request.key == 'pauses' then
    move_version()
  end
  return 1
end

function operations.unmark()
  allow_growth()
  local found = call('HDEL', P .. request.key, request.target)
  if found == 1 then
    dirty, rings = true, true
    if request.key == 'pauses' then
      move_version()
    end
  end
  return found
end

function operations.marks()
  return call('HVALS', P .. request.key)
end
