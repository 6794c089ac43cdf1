-- What waits for other runs: `jobrunner.edges.resolve`, as Redis has to say it. The test that makes random
-- calls on two storages keeps both alike.

local ESCAPES = { ['"'] = '\\"', ['\\'] = '\\\\', ['\n'] = '\\n', ['\r'] = '\\r', ['\t'] = '\\t',
  ['\b'] = '\\b', ['\f'] = '\\f' }

local function escaped(point)
  if point < 0x10000 then
    return string.format('\\u%04x', point)
  end
  point = point - 0x10000
  return string.format('\\u%04x\\u%04x', 0xD800 + math.floor(point / 1024), 0xDC00 + point % 1024)
end

local function point_of(text)
  local first = string.byte(text)
  local point = first < 0xE0 and first - 0xC0 or first < 0xF0 and first - 0xE0 or first - 0xF0
  for i = 2, #text do
    point = point * 64 + string.byte(text, i) - 0x80
  end
  return point
end

-- A JSON text as Python writes it: ASCII alone.
local function quoted(text)
  if not text then
    return 'null'
  end
  text = string.gsub(text, '[%z\1-\31"\\\127]', function(char)
    return ESCAPES[char] or escaped(string.byte(char))
  end)
  text = string.gsub(text, '[\194-\244][\128-\191]+', function(char)
    return escaped(point_of(char))
  end)
  return '"' .. text .. '"'
end

local INPUT = { 'task', 'state', 'result', 'reason', 'outcome', 'error', 'exit_code', 'attempt' }

-- The end of the run with this id: nil when it is not there (any more).
local function input_of(id)
  local seq = seq_of(id)
  if not seq then
    return nil
  end
  local values, found = call('HMGET', P .. 'run:' .. seq, unpack(INPUT)), { id = id, seq = seq }
  for i, name in ipairs(INPUT) do
    found[name] = values[i]
  end
  found.outcome = found.outcome or (found.state == 'succeeded' and 'ok')
  return found
end

local function failure(input)
  return '{"$failure":{"task":' .. quoted(input.task) .. ',"run_id":' .. quoted(input.id) .. ',"state":'
    .. quoted(input.state) .. ',"reason":' .. quoted(input.reason or input.outcome or input.state)
    .. ',"error":' .. quoted(input.error) .. '}}'
end

local function joined_result(join, inputs)
  if join == 'last' then
    return #inputs > 0 and inputs[#inputs].result or false
  end
  local texts = {}
  for i, each in ipairs(inputs) do
    texts[i] = each.state == 'succeeded' and (each.result or 'null') or failure(each)
  end
  return '[' .. table.concat(texts, ',') .. ']'
end

-- Of the first member that did not succeed: which, and why; of a block, what it says itself.
local function culprit(inputs)
  local found
  for _, each in ipairs(inputs) do
    if each.state ~= 'succeeded' and (not found or (found.state == 'skipped' and each.state ~= 'skipped')) then
      found = each
    end
  end
  if found.reason == 'upstream failed' and found.error then
    return found.error
  end
  return found.task .. ' (' .. found.id .. '): ' .. (found.reason or found.outcome or found.state)
end

local function join_as(r)
  local inputs, well = {}, true
  for _, edge in ipairs(cjson.decode(r.after or '[]')) do
    local input = input_of(edge[1])
    if input then
      inputs[#inputs + 1] = input
      well = well and input.state == 'succeeded'
    end
  end
  if r.cancel == 'timeout' then
    return { state = 'failed', outcome = 'timeout' }
  elseif r.cancel then
    return { state = 'cancelled', reason = r.cancel }
  elseif not well and r.join ~= 'list-any' then
    return { state = 'failed', reason = 'upstream failed', error = culprit(inputs) }
  end
  return { state = 'succeeded', outcome = 'ok', result = joined_result(r.join, inputs) }
end

local function fits(condition, state)
  if condition == 'final' then
    return true
  elseif condition == 'ok' then
    return state == 'succeeded'
  end
  return FAILED[state] or false
end

-- It is due its own delay after this moment; what bounds its start moves along (semantics 19).
local function begin(r)
  local due_at = NOW + math.max(0, tonumber(r.due_at) - tonumber(r.created_at))
  local new = { state = due_at > NOW and 'scheduled' or 'queued', due_at = int(due_at) }
  if r.expires_at then
    new.expires_at = int(tonumber(r.expires_at) + due_at - tonumber(r.due_at))
  end
  change(r, new)
end

local function in_vain(r, edges)
  untie(r)
  for _, edge in ipairs(edges) do
    if edge[2] == 'failed' then
      remove(r)
      return
    end
  end
  change(r, { state = 'skipped', reason = 'upstream failed', finished_at = int(NOW) })
end

local function state_of(id)
  local seq = seq_of(id)
  return seq and call('HGET', P .. 'run:' .. seq, 'state') or 'missing'
end

local function is_over(id)
  local state = state_of(id)
  return state == 'missing' or FINAL[state] or false
end

local function look(r)
  local edges, waits = cjson.decode(r.after or '[]'), false
  for _, edge in ipairs(edges) do
    local state = state_of(edge[1])
    if state ~= 'missing' and not FINAL[state] then
      waits = true
    elseif not fits(edge[2], state) then
      in_vain(r, edges)
      return
    end
  end
  if not waits then
    untie(r)
    begin(r)
  end
end

-- What becomes of a waiting row now.
local function resolve(seq)
  local r = row(seq)
  if not r or r.state ~= 'waiting' then
    return
  end
  if not r.join then
    look(r)
  elseif call('SCARD', P .. 'open:' .. seq) == 0 then
    local new = join_as(r)
    new.finished_at = int(NOW)
    change(r, new)
  end
end

local function free_from(seq, id, freed)
  call('SREM', P .. 'open:' .. seq, id)
  freed[seq] = true
end

-- Those of these runs that others may wait for: mostly none, which one command tells of many.
local function awaited(ended)
  local found = {}
  for i = 1, #ended, 500 do
    local keys = {}
    for j = i, math.min(i + 499, #ended) do
      keys[#keys + 1] = P .. 'next:' .. ended[j]
    end
    if call('EXISTS', unpack(keys)) > 0 then
      for j = i, i + #keys - 1 do
        found[#found + 1] = ended[j]
      end
    end
  end
  return found
end

local function freed_by(ended, born)
  local freed = {}
  for _, seq in ipairs(born) do
    freed[seq] = true
    for _, id in ipairs(call('SMEMBERS', P .. 'open:' .. seq)) do
      if is_over(id) then
        call('SREM', P .. 'next:' .. id, seq)
        free_from(seq, id, freed)
      end
    end
  end
  for _, id in ipairs(awaited(ended)) do
    local waiters = call('SMEMBERS', P .. 'next:' .. id)
    if #waiters > 0 then
      call('DEL', P .. 'next:' .. id)
    end
    for _, seq in ipairs(waiters) do
      free_from(seq, id, freed)
    end
  end
  return freed
end

-- What the ends of runs in this call mean to others, and what becomes final thereby, until nothing does.
local function ripple()
  while #finals > 0 or #fresh > 0 do
    local ended, born = finals, fresh
    finals, fresh = {}, {}
    local seqs = {}
    for seq in pairs(freed_by(ended, born)) do
      seqs[#seqs + 1] = seq
    end
    table.sort(seqs, by_number)
    for _, seq in ipairs(seqs) do
      resolve(seq)
    end
  end
end

-- End a run that is not running; mark one that is; of one that stands for others, all that are below it.
local function cancel(id, reason)
  local seq = seq_of(id)
  local r = seq and row(seq)
  if not r or FINAL[r.state] then
    return false
  end
  if r.state == 'running' then
    call('HSETNX', P .. 'run:' .. seq, 'cancel', reason)
    call('SADD', P .. 'wanted:' .. r.owner, seq)
    dirty, rings = true, true
  elseif r.join then
    call('ZREM', P .. 'expiry', pad(seq))
    call('HSETNX', P .. 'run:' .. seq, 'cancel', reason)
    for _, edge in ipairs(cjson.decode(r.after or '[]')) do
      cancel(edge[1], reason == 'timeout' and 'cancelled' or reason)
    end
    fresh[#fresh + 1] = seq
    dirty = true
  else
    change(r, { state = 'cancelled', reason = reason, finished_at = int(NOW) })
  end
  return true
end
