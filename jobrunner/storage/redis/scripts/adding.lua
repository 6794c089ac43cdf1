-- Adding runs, by clients, ticks and settles alike; unique keys.

-- Whether a run, or (of a pipeline) one of its steps, was claimed.
local function begun(r)
  if r.state == 'running' then
    return true
  end
  for _, seq in ipairs(r.join and call('ZRANGE', P .. 'pipe:' .. r.id, 0, -1) or {}) do
    if call('HGET', P .. 'run:' .. seq, 'claim_no') ~= '0' then
      return true
    end
  end
  return false
end

-- Whether the row gets its unique key: it is free, or its holder gives it up.
local function gets_key(r)
  local seq = r.unique and not FINAL[r.state] and call('HGET', P .. 'unique', r.unique)
  if not seq then
    return true
  elseif not r.replaces then
    return false
  end
  local holder = row(seq)
  if begun(holder) then
    call('HDEL', P .. 'run:' .. seq, 'unique')
    call('HDEL', P .. 'unique', r.unique)
  else
    cancel(holder.id, 'superseded')
    ripple()
  end
  return true
end

-- Add rows; whether each was added. What belongs to a pipeline whose root is refused is refused with it.
local function add_all(rows)
  local answers, refused = {}, {}
  for i, r in ipairs(rows) do
    if r.unique then
      write_gathered() -- its holder may be one of these
    else
      gather()
    end
    local welcome = not (r.pipeline and refused[r.pipeline]) and not seq_of(r.id) and gets_key(r)
    if welcome then
      insert(r)
    else
      refused[r.id] = true
    end
    answers[i] = welcome and 1 or 0
  end
  write_gathered()
  return answers
end

local function add_those_asked_for()
  local answers = add_all(request.runs)
  ripple()
  rings = true
  return answers
end

-- The same of rows that wait in their lanes, and are bound to nothing. This is what clients mostly ask for, and
-- few functions are needed for it.
local function add_plain_ones()
  local answers = {}
  if #request.runs > 1 then
    gather()
  end
  for i, r in ipairs(request.runs) do
    answers[i] = 0
    if not seq_of(r.id) then
      register(r)
      take_place('task:' .. r.task .. ':queued', r.seq, r.seq)
      enter_lane(r)
      if is_ready(r) then
        note('ready', r.seq, first_claim_of(r))
      end
      dirty, answers[i] = true, 1
    end
  end
  write_gathered()
  rings = true
  return answers
end

function operations.add_plain()
  return add_plain_ones()
end

function operations.add()
  return add_those_asked_for()
end
