-- The generic cell rate algorithm for several limits at once: all are taken, or none. It decides as eyebolt-admission's gcra.rs
-- does, in whole nanoseconds: every number here is below 2^52, so that a double holds it exactly.
--
-- KEYS: a counter each, the instant (seconds:nanoseconds) when everything let in so far has leaked out, and the nanoseconds that
-- one unit of it stands for.
-- ARGV: "take" (or nothing, where one is too much), "left" (what is left of those that are too much) or "back"; then for each
-- key how many nanoseconds one unit stands for, the cost in units (-1: more than would ever fit) and the whole limit.
-- Answers the time (seconds, microseconds), then for each key how much was still to leak out.
local time = redis.call('TIME')
local second, nano = tonumber(time[1]), tonumber(time[2]) * 1000
local kept = #KEYS > 0 and redis.call('MGET', unpack(KEYS)) or {}
local backlog, full = {}, false
local answer = { second, tonumber(time[2]) }
local function keep(key, left, unit)
  local total = nano + left
  local at = string.format('%.0f:%.0f:%.0f', second + math.floor(total / 1000000000), total % 1000000000, unit)
  redis.call('SET', key, at, 'PX', math.ceil(left / 1000000) + 1000)
end
for i, key in ipairs(KEYS) do
  local unit, cost, whole = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local s, n, u = string.match(kept[i] or '', '^(%d+):(%d+):([1-9]%d*)$')
  local left = 0
  if s then
    local before = tonumber(u)
    left = math.max(0, (tonumber(s) - second) * 1000000000 + tonumber(n) - nano)
    if ARGV[1] == 'back' then
      keep(key, math.max(0, left - cost * before), before)
    elseif whole > 0 and (before ~= unit or left > whole) then
      if before ~= unit then
        -- The limit was changed: what was used stays used, in units.
        left = math.floor(left / before) * unit + math.ceil(left % before / before * unit)
      end
      keep(key, math.min(left, whole), unit)
    end
    left = math.min(left, whole)
  end
  backlog[i] = left
  answer[i + 2] = left
  full = full or cost < 0 or left + cost * unit > whole
end
if ARGV[1] == 'back' or (ARGV[1] == 'take' and full) then return answer end
for i, key in ipairs(KEYS) do
  local unit, cost, whole = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local room = math.floor((whole - backlog[i]) / unit)
  if cost < 0 or cost > room then cost = room end
  if cost > 0 then keep(key, backlog[i] + cost * unit, unit) end
end
return answer
