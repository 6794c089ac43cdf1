-- Claims: `jobrunner.storage.lanes`, as Redis has to say it. A claim reads only the heads of open lanes,
-- however much waits elsewhere.

local MOST_STRANGERS = 5000 -- runs that one claim sends from a lane to another
local MOST_REFUSED = 100 -- runs that one claim refuses for a busy lock
local MOST_STARTS = 2147483648 -- of a task without a rate
local BLOCK = 100 -- places read from a lane at a time

-- Queue what is due; true when there is more of it.
local function promote()
  local due = call('ZRANGEBYSCORE', P .. 'due', '-inf', int(NOW), 'LIMIT', 0, MOST_AT_ONCE)
  for _, padded in ipairs(due) do
    change(row(unpad(padded)), { state = 'queued' })
  end
  return #due == MOST_AT_ONCE
end

-- End what was not started in time, and pipelines whose time is up; true when there is more of it.
local function expire()
  local late = call('ZRANGEBYSCORE', P .. 'expiry', '-inf', int(NOW), 'LIMIT', 0, MOST_AT_ONCE)
  for _, padded in ipairs(late) do
    local r = row(unpad(padded))
    if r.state == 'waiting' then
      cancel(r.id, 'timeout')
    elseif expires_in(r) then
      change(r, { state = 'expired', reason = 'expired', finished_at = int(NOW) })
    end
  end
  return #late == MOST_AT_ONCE
end

-- --- what is held at this moment -----------------------------------------------------------------------

local floor = { limited = {} } -- rules, paused, marks, locks, starts, revoked, reopens

local function rule_of(task)
  local rule = floor.rules[task]
  if rule == nil then
    local text = call('HGET', P .. 'rules:' .. request.rules, task)
    rule = text and cjson.decode(text) or false
    if rule then
      rule.lane, rule.pool, rule.lock, rule.slots, rule.on_busy = unpack(rule, 1, 5)
      rule.limit, rule.window = rule[6] or nil, rule[7] or nil
    end
    floor.rules[task] = rule
  end
  return rule
end

local function in_force(key)
  local found = {}
  for target, text in pairs(map(call('HGETALL', P .. key))) do
    local each = cjson.decode(text)
    if type(each['until']) ~= 'number' or each['until'] > NOW then
      found[target] = each
    end
  end
  return found
end

local function free(rule)
  local held = floor.locks[rule.lock]
  if not held then
    held = call('SCARD', P .. 'lock:' .. rule.lock)
    floor.locks[rule.lock] = held
  end
  return rule.slots - held
end

local function window_of(rule)
  return NOW - NOW % rule.window
end

local function starts_of(task, rule)
  local starts = floor.starts[task]
  if not starts then
    local kept = call('HMGET', P .. 'rate:' .. task, 'window', 'starts')
    starts = kept[1] == int(window_of(rule)) and tonumber(kept[2]) or 0
    floor.starts[task] = starts
  end
  return starts
end

local function left_of(task, rule)
  return rule.limit and rule.limit - starts_of(task, rule) or MOST_STARTS
end

local function note_window(task, rule)
  if rule.limit then
    floor.limited[task] = true
    floor.reopens = math.min(floor.reopens or math.huge, window_of(rule) + rule.window)
  end
end

-- --- lanes ---------------------------------------------------------------------------------------------

local function limit_of(task, rule, room)
  if room <= 0 then
    return room
  end
  local left = left_of(task, rule)
  if left <= 0 then
    if call('EXISTS', P .. 'lane:task:' .. task) == 1 then -- else the lane is empty by now
      note_window(task, rule)
    end
    return 0
  end
  if rule.lock ~= '' then
    room = rule.on_busy == 'wait' and math.min(room, free(rule)) or room + MOST_REFUSED
  end
  return math.min(room, left)
end

local function open_pool(lane, pool)
  if floor.paused[lane] then
    return nil
  end
  local room = request.want[pool] or 0
  if room > 0 then
    return { name = lane, pool = pool, limit = room }
  end
  -- A pool that no task uses any more: its runs find their way by their tasks' lanes.
  if call('HEXISTS', P .. 'rules:' .. request.rules, 'pool ' .. pool) == 1 then
    return nil
  end
  return { name = lane, pool = '', limit = 0 }
end

local function open_lane(lane)
  local kind, name = string.match(lane, '^(%a+):(.*)$')
  if kind == 'pool' then
    return open_pool(lane, name)
  elseif kind == 'paused' then
    return not floor.paused['task:' .. name] and { name = lane, pool = '', limit = 0 } or nil
  end
  local rule = rule_of(name)
  if not rule or floor.paused[lane] or floor.paused['pool:' .. rule.pool] then
    return nil
  end
  local room = request.want[rule.pool] or 0
  local limit = limit_of(name, rule, room)
  return limit > 0 and { name = lane, pool = rule.pool, limit = limit, is_full = limit < room } or nil
end

-- Where a run belongs: here, or (a stranger) in another lane.
local function lane_of(lane, head)
  if head.pipeline_name and floor.paused['task:' .. head.pipeline_name] then
    return 'paused:' .. head.pipeline_name
  end
  local rule, own = rule_of(head.task), 'task:' .. head.task
  return rule and rule.lane == lane and not floor.paused[own] and lane or own
end

-- What is known of a run by its first claim alone (see `first_claim_of`): `says`.
local function ready_head(place, seq, text)
  local id, task = string.match(text, '^[^"]*"([^"]*)","([^"]*)"')
  return { seq = seq, place = place, is_late = false, id = id, task = task, lane = false, says = text }
end

-- The row at a place in a lane, with what the choice notes beside it: `place`, `is_late`, `taken`, `refused`.
local function head_of(place)
  local head = whole_row(unpad(string.sub(place, -16)))
  head.place = place
  head.is_late = head.expires_at and head.claim_no == '0' and tonumber(head.expires_at) <= NOW
  return head
end

-- No more is read of a row where strangers stand: there may be thousands.
local WHOSE = { 'id', 'task', 'pipeline_name' }

local function glance_at(place)
  local head = row(unpad(string.sub(place, -16)), WHOSE)
  head.place = place
  return head
end

-- What is known of the runs at these places without a look at their rows; false: nothing.
local function ready_heads(places)
  local seqs = {}
  for i, place in ipairs(places) do
    seqs[i] = unpad(string.sub(place, -16))
  end
  local heads = #seqs > 0 and call('HMGET', P .. 'ready', unpack(seqs)) or {}
  for i, text in ipairs(heads) do
    heads[i] = text and ready_head(places[i], seqs[i], text)
  end
  return heads
end

-- Read a lane's heads; true when it was left before its end.
local function read(lane, heads, strangers)
  local left, moved, start = lane.limit, 0, 0
  local size = math.min(BLOCK, left + 1)
  while true do
    local places = call('ZRANGE', P .. 'lane:' .. lane.name, start, start + size - 1)
    if #places == 0 and start == 0 then
      call('SREM', P .. 'lanes', lane.name)
    end
    local ready = ready_heads(places)
    for i, place in ipairs(places) do
      local head = ready[i] or (moved == 0 and head_of(place) or glance_at(place))
      local home = lane_of(lane.name, head)
      if home ~= lane.name then
        strangers[#strangers + 1] = { seq = head.seq, place = place, lane = lane.name, home = home }
        moved = moved + 1
        if moved == MOST_STRANGERS then
          return true
        end
      elseif left == 0 then
        return true
      else
        head = (moved == 0 or head.says) and head or head_of(place)
        head.lane = lane.name
        if not head.is_late then
          heads[#heads + 1] = head
          left = left - 1
        end
      end
    end
    if #places < size then
      return false
    end
    start, size = start + size, BLOCK
  end
end

-- --- the choice ----------------------------------------------------------------------------------------

-- The revocation that a run meets, and what it cancels: the run, or its pipeline.
local function mark_of(head)
  if head.pipeline then
    for _, target in ipairs({ 'run:' .. head.pipeline, head.pipeline_name and 'task:' .. head.pipeline_name or '' }) do
      if floor.marks[target] then
        return target, head.pipeline
      end
    end
  end
  for _, target in ipairs({ 'run:' .. head.id, 'task:' .. head.task }) do
    if floor.marks[target] then
      return target, head.id
    end
  end
end

local function revokes(head, choice)
  if not next(floor.marks) then
    return false
  end
  if head.pipeline and floor.revoked[head.pipeline] then
    return true
  end
  local target, id = mark_of(head)
  if not target then
    return false
  end
  floor.revoked[id] = true
  choice.revoked[#choice.revoked + 1] = id
  if floor.marks[target].once then
    floor.marks[target] = nil
    choice.used[#choice.used + 1] = target
  end
  choice.more = true
  return true
end

local function accept(head, rule, choice)
  if rule.lock ~= '' then
    floor.locks[rule.lock] = floor.locks[rule.lock] + 1
    head.taken = rule.lock
  end
  if rule.limit then
    floor.starts[head.task] = floor.starts[head.task] + 1
    choice.rated[head.task] = rule
  end
  choice.claims[#choice.claims + 1] = head
end

local function choose(heads, room, choice)
  if heads.lanes > 1 then
    table.sort(heads, function(a, b)
      return a.place < b.place
    end)
  end
  local refused = 0
  for _, head in ipairs(heads) do
    local rule = rule_of(head.task)
    if revokes(head, choice) then
      -- it is cancelled instead
    elseif left_of(head.task, rule) <= 0 then
      note_window(head.task, rule)
    elseif rule.lock ~= '' and free(rule) <= 0 then
      if rule.on_busy ~= 'wait' and refused < MOST_REFUSED then
        head.refused = 'lock busy'
        choice.claims[#choice.claims + 1] = head
        refused = refused + 1
      end
    elseif room <= 0 then
      choice.more = true
    else
      room = room - 1
      accept(head, rule, choice)
    end
  end
end

-- Note the next window of tasks whose runs were left behind because their rate is used up.
local function look_at_windows(lanes)
  for _, lane in ipairs(lanes) do
    local task = string.sub(lane, 6)
    local rule = rule_of(task)
    if left_of(task, rule) <= 0 then
      note_window(task, rule)
    end
  end
end

local function chosen()
  local choice = { claims = {}, strangers = {}, revoked = {}, used = {}, rated = {}, more = false }
  local by_pool, pools, full = {}, {}, {}
  if floor.paused.all then
    return choice
  end
  local lanes = call('SMEMBERS', P .. 'lanes')
  table.sort(lanes)
  for _, name in ipairs(lanes) do
    local lane = open_lane(name)
    if lane then
      if not by_pool[lane.pool] then
        by_pool[lane.pool] = { lanes = 0 }
        pools[#pools + 1] = lane.pool
      end
      local heads = by_pool[lane.pool]
      heads.lanes = heads.lanes + 1
      local has_more = read(lane, heads, choice.strangers)
      choice.more = choice.more or (has_more and not lane.is_full)
      full[#full + 1] = has_more and lane.is_full and name or nil
    end
  end
  for _, pool in ipairs(pools) do
    choose(by_pool[pool], request.want[pool] or 0, choice)
  end
  look_at_windows(full)
  choice.more = choice.more or #choice.strangers > 0 -- they may be claimed from where they are sent
  return choice
end

-- --- the write -----------------------------------------------------------------------------------------

local GONE = { 'started_at', 'pid', 'outcome', 'exit_code', 'signal', 'error', 'result', 'output', 'reason' }

local function inputs_of(after)
  local inputs = {}
  for _, edge in ipairs(after and cjson.decode(after) or {}) do
    local each = input_of(edge[1])
    if each then
      inputs[#inputs + 1] = { edge[1], each.task, each.state, edge[2], each.result, each.reason, each.outcome,
        each.error, each.exit_code, each.attempt }
    else
      inputs[#inputs + 1] = { edge[1], '', 'skipped', edge[2], false, false, false, false, false, '0' }
    end
  end
  return inputs
end

-- In the order of `rows.claim_of`.
local function claim_of(r)
  return {
    r.id, r.task, r.claim_no, r.attempt, r.failures or '0', r.crashes or '0', r.payload, r.priority or '0', r.due_at, r.created_at,
    r.trigger, r.pool, r.tick or false, r.missed or '0', r.policy or false, r.options or false, r.cause or false,
    r.pipeline or false, r.pipeline_name or false, r.step or false, r.compose or false, r.seq, r.refused or false,
    r.compose and inputs_of(r.after) or nil,
  }
end

-- Runs of which no more than their first claims are known: what these say stands. It is written of many at a
-- time.
local function take_ready(heads, owner, host)
  local seqs, held, by_task, by_lane = {}, {}, {}, {}
  for i, head in ipairs(heads) do
    local seq, task, lane = head.seq, head.task, head.lane
    call('HSET', P .. 'run:' .. seq, 'state', 'running', 'owner', owner, 'host', host, 'claim_no', '1', 'attempt', '1')
    seqs[i] = seq
    held[2 * i - 1], held[2 * i] = seq, '1\n' .. head.id .. '\n' .. task
    local of_task = by_task[task] or { seqs = {}, scored = {}, size = 0 }
    local size = of_task.size + 1
    by_task[task], of_task.size, of_task.seqs[size] = of_task, size, seq
    of_task.scored[2 * size - 1], of_task.scored[2 * size] = seq, seq
    local places = by_lane[lane] or {}
    by_lane[lane], places[#places + 1] = places, head.place
  end
  for task, found in pairs(by_task) do
    write_list('ZREM', 'task:' .. task .. ':queued', found.seqs)
    write_list('ZADD', 'task:' .. task .. ':running', found.scored)
  end
  for lane, places in pairs(by_lane) do
    write_list('ZREM', 'lane:' .. lane, places)
  end
  write_list('HDEL', 'ready', seqs)
  write_list('HSET', 'held:' .. owner, held)
  dirty = dirty or #seqs > 0
end

-- All of a run that is bound to something after all: a lock that it takes, or finds busy.
local function in_full(head)
  local whole_head = whole_row(head.seq)
  whole_head.place, whole_head.taken, whole_head.refused = head.place, head.taken, head.refused
  return whole_head
end

local function take(head, owner, host)
  local key = P .. 'run:' .. head.seq
  leave(head)
  if head.claim_no ~= '0' then
    call('HDEL', key, unpack(GONE))
  end
  head.state, head.owner = 'running', owner
  head.claim_no, head.attempt = int(tonumber(head.claim_no) + 1), int(tonumber(head.attempt) + 1)
  call('HSET', key, 'state', 'running', 'owner', owner, 'host', host, 'claim_no', head.claim_no,
    'attempt', head.attempt)
  if head.taken then
    head.lock = head.taken
    call('HSET', key, 'lock', head.lock)
  end
  arrive(head)
  return cjson.encode(claim_of(head))
end

-- Send strangers where they belong: nothing else of them changes.
local function send(strangers)
  gather()
  for _, each in ipairs(strangers) do
    call('HSET', P .. 'run:' .. each.seq, 'lane', each.home)
    leave_place('lane:' .. each.lane, each.place)
    take_place('lane:' .. each.home, 0, each.place)
    join_set('lanes', each.home)
    dirty, frees = true, true
  end
  write_gathered()
end

local function take_all(choice, owner)
  send(choice.strangers)
  for _, target in ipairs(choice.used) do
    call('HDEL', P .. 'revocations', target)
  end
  for _, id in ipairs(choice.revoked) do
    cancel(id, 'revoked')
  end
  ripple()
  for task, rule in pairs(choice.rated) do
    call('HSET', P .. 'rate:' .. task, 'window', int(window_of(rule)), 'starts', int(floor.starts[task]))
    call('PEXPIRE', P .. 'rate:' .. task, int(math.ceil((window_of(rule) + rule.window - NOW) / 1000) + 60000))
  end
  local host = call('HGET', P .. 'supervisor:' .. owner, 'host') or ''
  local claims, ready = {}, {}
  gather()
  for _, head in ipairs(choice.claims) do
    -- A revocation that this very claim met may have ended it.
    if #choice.revoked == 0 or call('HGET', P .. 'run:' .. head.seq, 'state') == 'queued' then
      if head.says and not (head.taken or head.refused) then
        ready[#ready + 1], claims[#claims + 1] = head, head.says
      else
        claims[#claims + 1] = take(head.says and in_full(head) or head, owner, host)
      end
    end
  end
  write_gathered()
  take_ready(ready, owner, host)
  return claims
end

local function cancels_of(owner)
  local found = {}
  local seqs = call('SMEMBERS', P .. 'wanted:' .. owner)
  table.sort(seqs, by_number)
  for _, seq in ipairs(seqs) do
    found[#found + 1] = seq
    found[#found + 1] = call('HGET', P .. 'run:' .. seq, 'claim_no')
  end
  return found
end

-- When time changes something: a run due or too late, a pause over, a new window of a rate.
local function next_due()
  local first = math.min(first_score('due'), first_score('expiry'), floor.reopens or math.huge)
  for _, text in ipairs(call('HVALS', P .. 'pauses')) do
    local ends = cjson.decode(text)['until']
    if type(ends) == 'number' and ends > NOW then
      first = math.min(first, ends)
    end
  end
  return first < math.huge and int(first) or false
end

-- The tasks whose due runs were left for the next window of their rate.
local function limited_tasks()
  local found = {}
  for task in pairs(floor.limited) do
    found[#found + 1] = task
  end
  return found
end

-- The rules of a plan lie in the storage, under the digest of all of them.
local function has_rules()
  local key = P .. 'rules:' .. request.rules
  if request.rule_list then
    write_hash(key, request.rule_list)
    call('EXPIRE', key, 86400)
    return true
  end
  return call('EXISTS', key) == 1
end

function operations.exchange()
  if not in_office(request.owner) then
    return { 'lost' }
  end
  if request.rule_list then
    allow_growth()
  end
  if not has_rules() then
    return { 'rules' }
  end
  allow_growth()
  mark_started(request.started)
  local refused = settle_all(with_plain_ones(request.settled, request.owner), request.owner)
  local more = promote()
  more = expire() or more
  ripple()
  local claims, version = {}, call('GET', P .. 'control') or '1'
  if version == request.control then
    floor.rules, floor.locks, floor.starts, floor.revoked = {}, {}, {}, {}
    floor.paused, floor.marks = in_force('pauses'), in_force('revocations')
    local choice = chosen()
    claims = take_all(choice, request.owner)
    more = more or choice.more
  end
  rings = rings or (frees and call('SCARD', P .. 'lanes') > 0)
  return { 'done', '[' .. table.concat(claims, ',') .. ']', refused, cancels_of(request.owner), version, next_due(), more and 1 or 0,
    int(NOW), limited_tasks() }
end

function operations.claimed_by()
  local claims = {}
  for _, seq in ipairs(running_under(request.owner)) do
    claims[#claims + 1] = claim_of(whole_row(seq))
  end
  return encoded(claims)
end

-- --- extra locks ---------------------------------------------------------------------------------------

local function running_row()
  local r = row(request.seq)
  if r and r.state == 'running' and r.claim_no == request.claim_no and r.owner == request.owner then
    return r, r.locks and cjson.decode(r.locks) or {}
  end
  return nil
end

local function place_of(lock, locks)
  for i, each in ipairs(locks) do
    if each == lock then
      return i
    end
  end
  return nil
end

function operations.acquire()
  local r, locks = running_row()
  if not r then
    return 0
  elseif request.lock == r.lock or place_of(request.lock, locks) then
    return 1
  elseif call('SCARD', P .. 'lock:' .. request.lock) >= request.slots then
    return 0
  end
  locks[#locks + 1] = request.lock
  call('HSET', P .. 'run:' .. r.seq, 'locks', cjson.encode(locks))
  call('HDEL', P .. 'held:' .. r.owner, r.seq)
  call('ZADD', P .. 'own:' .. r.owner, r.seq, r.seq)
  call('SADD', P .. 'lock:' .. request.lock, r.seq)
  dirty = true
  return 1
end

function operations.release()
  local r, locks = running_row()
  local place = r and place_of(request.lock, locks)
  if not place then
    return 0
  end
  allow_growth()
  table.remove(locks, place)
  call('SREM', P .. 'lock:' .. request.lock, r.seq)
  if #locks > 0 then
    call('HSET', P .. 'run:' .. r.seq, 'locks', cjson.encode(locks))
  else
    call('HDEL', P .. 'run:' .. r.seq, 'locks')
  end
  dirty, rings = true, true
  return 1
end
