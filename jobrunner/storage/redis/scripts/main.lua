-- One call: its operation, and the word to those who wait for it.

local answer = operations[ARGV[1]]()
if dirty then
  call('INCR', P .. 'writes')
end
if rings then
  call('PUBLISH', P .. 'wake', ARGV[1])
end
return { dirty and 1 or 0, answer }
