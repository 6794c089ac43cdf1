-- Supervisors: who works here, by leases that the server's clock tells; the runs of those who are dead.
--
--   supervisors        owner by started_at: all that are known, the last KEPT and those with runs
--   supervisor:O       info, host, status, beat, left, lost, keep
--   alive              owner by the end of its lease: in office

-- A name as long as this makes a hash a table: as a list, which it is while its entries are short and few, it
-- would be searched from its beginning for each of hundreds of runs.
local WIDE = string.rep('-', 65)

local KEPT = 20 -- supervisors remembered, for `status` to name the last ones

-- Whether the owner entered, has not left, and was not declared dead. A lease that has run out ends nothing by
-- itself: only another supervisor's recovery does.
local function in_office(owner)
  return call('ZSCORE', P .. 'alive', owner) and true or false
end

local function renew(owner)
  call('ZADD', P .. 'alive', int(NOW + request.lease), owner)
end

local function forget(owner)
  call('ZREM', P .. 'supervisors', owner)
  call('DEL', P .. 'supervisor:' .. owner, P .. 'wanted:' .. owner, P .. 'held:' .. owner)
end

local function forget_the_oldest()
  local surplus = call('ZCARD', P .. 'supervisors') - KEPT
  for _, owner in ipairs(surplus > 0 and call('ZRANGE', P .. 'supervisors', 0, surplus - 1) or {}) do
    local is_needed = in_office(owner) or #running_under(owner) > 0
    if not is_needed and call('GET', P .. 'published') ~= owner then
      forget(owner)
    end
  end
end

-- Whether somebody who lives keeps this one out: one of the two is to be alone.
local function is_taken(owner)
  for _, each in ipairs(call('ZRANGEBYSCORE', P .. 'alive', '(' .. int(NOW), '+inf')) do
    local status = each ~= owner and call('HGET', P .. 'supervisor:' .. each, 'status')
    if status and (request.alone or cjson.decode(status).alone) then
      return true
    end
  end
  return false
end

-- What an older jobrunner left in a form of its own: states had places of all tasks' runs, and only the failed
-- were told from the succeeded by the time of their end.
local function take_over()
  for _, state in ipairs({ 'cancelled', 'expired', 'skipped' }) do
    for _, seq in ipairs(call('ZREVRANGE', P .. 'state:' .. state, 0, COUNT_LIMIT)) do
      call('ZADD', P .. 'ended:' .. state, call('HGET', P .. 'run:' .. seq, 'finished_at'), seq)
    end
  end
  for _, state in ipairs({ 'waiting', 'scheduled', 'queued', 'running', 'retrying' }) do
    call('UNLINK', P .. 'state:' .. state)
  end
  for state in pairs(FINAL) do
    call('UNLINK', P .. 'state:' .. state)
  end
  call('UNLINK', P .. 'queued', P .. 'ended:succeeded')
  call('UNLINK', P .. 'ready') -- what newer clients noted: of runs that it may have claimed
end

function operations.enter()
  local owner = request.owner
  if call('HEXISTS', P .. 'supervisor:' .. owner, 'lost') == 1 then
    return 0 -- an owner is never revived
  elseif is_taken(owner) then
    return 2
  end
  allow_growth()
  if call('GET', P .. 'format') == '1' then
    take_over()
  end
  call('SET', P .. 'format', request.format)
  call('ZADD', P .. 'supervisors', request.started_at, owner)
  call('HSET', P .. 'supervisor:' .. owner, 'info', request.info, 'host', request.host, 'status',
    request.status, 'beat', request.started_at)
  call('HSET', P .. 'held:' .. owner, WIDE, '')
  renew(owner)
  forget_the_oldest()
  dirty = true
  return 1
end

function operations.heartbeat()
  if not in_office(request.owner) then
    return 0
  end
  allow_growth()
  call('HSET', P .. 'supervisor:' .. request.owner, 'status', request.status, 'beat', int(NOW))
  renew(request.owner)
  return 1
end

function operations.leave()
  allow_growth()
  if in_office(request.owner) then
    call('HSET', P .. 'supervisor:' .. request.owner, 'left', int(math.min(NOW, tonumber(request.left))))
    call('ZREM', P .. 'alive', request.owner)
    dirty, rings = true, true
  end
  return 1
end

-- Declare dead whose lease has run out, and whose process is known to have ended.
local function bury(owner)
  if owner ~= request.owner and in_office(owner) then
    call('ZREM', P .. 'alive', owner)
    call('HSET', P .. 'supervisor:' .. owner, 'lost', '1')
    dirty = true
  end
end

function operations.orphans()
  allow_growth()
  for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'alive', '-inf', int(NOW))) do
    bury(owner)
  end
  for _, owner in ipairs(request.dead) do
    bury(owner)
  end
  local found = {}
  for _, owner in ipairs(call('ZRANGE', P .. 'supervisors', 0, -1)) do
    if owner ~= request.owner and not in_office(owner) then
      for _, seq in ipairs(running_under(owner)) do
        found[#found + 1] = { seq, call('HGET', P .. 'supervisor:' .. owner, 'info') }
      end
    end
  end
  local rows = {}
  for i, each in ipairs(found) do
    rows[i] = { whole(each[1]), each[2] }
  end
  return encoded(rows)
end

function operations.supervisors()
  local found = {}
  for _, owner in ipairs(call('ZREVRANGE', P .. 'supervisors', 0, -1)) do
    local values = call('HMGET', P .. 'supervisor:' .. owner, 'info', 'status', 'beat', 'left')
    local lease = call('ZSCORE', P .. 'alive', owner)
    values[5] = lease and tonumber(lease) > NOW or false
    found[#found + 1] = values
  end
  return encoded(found)
end

-- --- catalogues ----------------------------------------------------------------------------------------
--
--   catalogue:O        the head, and an entry for each task, of owner O's catalogue
--   catalogues         owner by the order of publishing: whose catalogue is kept
--   published          the owner that published last: its catalogue stays when nobody is alive

local function publishers()
  local found = {}
  for _, owner in ipairs(call('ZREVRANGE', P .. 'catalogues', 0, -1)) do
    if in_office(owner) then
      found[#found + 1] = owner
    end
  end
  if #found == 0 then
    found[1] = call('GET', P .. 'published') or nil
  end
  return found
end

-- Whether the machine of a supervisor that is gone may come back: nobody works there for the same file since.
local function is_away(owner)
  local known = call('HMGET', P .. 'supervisor:' .. owner, 'info', 'beat')
  if in_office(owner) or not known[1] or tonumber(known[2]) <= NOW - request.away then
    return false
  end
  local info = cjson.decode(known[1])
  for _, other in ipairs(call('ZRANGE', P .. 'alive', 0, -1)) do
    local each = cjson.decode(call('HGET', P .. 'supervisor:' .. other, 'info') or '{}')
    if each.host == info.host and each.config == info.config then
      return false
    end
  end
  return true
end

-- Whose tasks and schedules count: those who live, and those whose machine is away.
local function keepers()
  local found = publishers()
  for _, owner in ipairs(call('ZRANGE', P .. 'catalogues', 0, -1)) do
    if is_away(owner) then
      found[#found + 1] = owner
    end
  end
  return found
end

local function drop_dead_catalogues()
  for _, owner in ipairs(call('ZRANGE', P .. 'catalogues', 0, -1)) do
    if not in_office(owner) and not is_away(owner) then
      call('ZREM', P .. 'catalogues', owner)
      call('DEL', P .. 'catalogue:' .. owner, P .. 'keep:' .. owner)
    end
  end
end

local function forget_schedules()
  local kept = {}
  for _, owner in ipairs(keepers()) do
    for _, key in ipairs(call('SMEMBERS', P .. 'keep:' .. owner)) do
      kept[key] = true
    end
  end
  for _, key in ipairs(call('HKEYS', P .. 'watermarks')) do
    if not kept[key] then
      call('HDEL', P .. 'watermarks', key)
      call('HDEL', P .. 'next_ticks', key)
    end
  end
end

local function is_known(task, owners)
  for _, owner in ipairs(owners) do
    if call('HEXISTS', P .. 'catalogue:' .. owner, 'task ' .. task) == 1 then
      return true
    end
  end
  return false
end

-- Retries, and ticks that do not run, of tasks that are no more (semantics 20).
local function cancel_removed()
  local owners, gone = keepers(), {}
  for _, task in ipairs(call('SMEMBERS', P .. 'tasks')) do
    if not is_known(task, owners) then
      for _, state in ipairs({ 'waiting', 'scheduled', 'queued', 'retrying' }) do
        for _, seq in ipairs(call('ZRANGE', P .. 'task:' .. task .. ':' .. state, 0, -1)) do
          gone[#gone + 1] = seq
        end
      end
    end
  end
  table.sort(gone, by_number)
  for _, seq in ipairs(gone) do
    local r = row(seq)
    if r and (r.state == 'retrying' or (r.tick and not FINAL[r.state] and not begun(r))) then
      cancel(r.id, 'removed')
    end
  end
  ripple()
end

function operations.publish()
  local owner = request.owner
  if not in_office(owner) then
    return 0
  end
  local key = P .. 'catalogue:' .. owner
  if call('HGET', key, 'digest') ~= request.digest or call('GET', P .. 'published') ~= owner then
    allow_growth()
    call('DEL', key, P .. 'keep:' .. owner)
    write_hash(key, request.entries)
    call('HSET', key, 'digest', request.digest)
    call('INCR', P .. 'published count')
    call('ZADD', P .. 'catalogues', call('GET', P .. 'published count'), owner)
    call('SET', P .. 'published', owner)
    if call('GET', P .. 'published digest') ~= request.digest then -- the same words by another owner move nothing
      call('SET', P .. 'published digest', request.digest)
      call('SET', P .. 'control', int(tonumber(call('GET', P .. 'control') or '1') + 1))
    end
    dirty, rings = true, true
  end
  call('DEL', P .. 'keep:' .. owner)
  for _, each in ipairs(request.keep) do
    call('SADD', P .. 'keep:' .. owner, each)
  end
  drop_dead_catalogues()
  cancel_removed()
  forget_schedules()
  return 1
end

function operations.catalogue()
  local found = {}
  for _, owner in ipairs(publishers()) do
    found[#found + 1] = call('HGETALL', P .. 'catalogue:' .. owner)
  end
  return encoded(found)
end

local function entry_of(task)
  for _, owner in ipairs(publishers()) do
    local text = call('HGET', P .. 'catalogue:' .. owner, 'task ' .. task)
    if text then
      return text
    end
  end
  return false
end

function operations.published()
  local text = entry_of(request.task)
  return text and { text, redis.sha1hex(text) }
end

-- Whether what is published about some tasks is what the caller goes by: task, mark, task, mark...
local function is_as_known()
  for i = 1, #request.marks, 2 do
    local text = entry_of(request.marks[i])
    if (text and redis.sha1hex(text) or '') ~= request.marks[i + 1] then
      return false
    end
  end
  return true
end

function operations.add_if()
  return is_as_known() and add_those_asked_for()
end

function operations.add_plain_if()
  return is_as_known() and add_plain_ones()
end
