-- Chooses the site for a request at one front, for scopes that name one site; whatever isn't clear at sight goes to
-- the agent, which knows the whole of scope-lang (carry/ is the twin of this file, and a property test
-- holds them together). `S` stands above: the names and numbers of this site, written by the agent.
--
-- In: X-Scope, the prefix /~scope/…, baggage, a marked request id, a token's suffix, in this order.
-- Out: the header cheops-to ("local", "site/NAME" or "agent"), which the routes are matched by afterwards, and the scope
-- in what the application propagates.

local find, format, gsub, lower, match, sub = string.find, string.format, string.gsub, string.lower, string.match, string.sub
local char, gmatch, random, tonumber = string.char, string.gmatch, math.random, tonumber
local MARK = "c4e0" -- of a UUIDv8: see carry/request_id.py
local AGENT = { to = "agent" }

-- Without a seed, every worker of every site would draw the same ids.
local entropy = io.open("/dev/urandom", "rb")
local a, b, c, d, e, f = string.byte(entropy:read(6), 1, 6)
entropy:close()
math.randomseed(a + 256 * (b + 256 * (c + 256 * (d + 256 * (e + 256 * f)))))

-- A name that after a key in JSON's quotes is no name: a JSON scope has only strings.
local function is_json_literal(name)
  return name == "true" or name == "false" or name == "null" or find(name, "^%d")
end

-- The bindings of `{service: Site, …}`, each a name that may be quoted, or of a bare site; nil if anything else is there.
local function read(text)
  local bare = match(text, "^%s*(%w[%w_.-]*)%s*$") or match(text, "^%s*{%s*(%w[%w_.-]*)%s*}%s*$")
  if bare then
    if not S.sites[bare] then return nil end
    return { [S.service] = bare }, { S.service }
  end
  local body = match(text, "^%s*{(.*)}%s*$")
  if not body then return nil end
  local bindings, order, rest = {}, {}, 1
  body = body .. ","
  repeat
    local first, last, quote, service, mark, site =
      find(body, "^%s*([\"']?)(%w[%w_.-]*)%1%s*:%s*([\"']?)(%w[%w_.-]*)%3%s*,%s*", rest)
    service = first and S.services[lower(service)]
    if not service or bindings[service] or not S.sites[site] then return nil end
    if quote == '"' and mark == "" and is_json_literal(site) then return nil end
    bindings[service], order[#order + 1], rest = site, service, last + 1
  until rest > #body
  return bindings, order
end

-- The digits that a request id of these bindings begins with; nil if they are too many.
local function head_of(bindings, order)
  if #order > 4 then return nil end
  local digits = MARK .. #order
  for _, service in ipairs(order) do
    digits = digits .. format("%04x", S.numbers[service] * 1024 + S.sites[bindings[service]])
  end
  return digits
end

local function escape(text)
  return (gsub(text, "[^%w_.~-]", function(c) return format("%%%02X", string.byte(c)) end))
end

local function unescape(text)
  return (gsub(text, "%%(%x%x)", function(digits) return char(tonumber(digits, 16)) end))
end

local function to(site)
  if site == nil or site == S.site then return "local" end
  return "site/" .. site
end

local function decide(text)
  if #text > 1024 then return AGENT end
  local bindings, order = read(text)
  if not bindings or #order > 64 then return AGENT end -- a scope may have only so many names
  local choice, words = { to = to(bindings[S.service]) }, {}
  for i, service in ipairs(order) do words[i] = service .. ": " .. bindings[service] end
  choice.text = "{" .. table.concat(words, ", ") .. "}"
  choice.bare = not find(text, ":", 1, true)
  if S.request_id then
    choice.head = head_of(bindings, order)
    if not choice.head then return AGENT end
  end
  return choice
end

-- Scopes repeat themselves; what was decided is remembered, up to a bound.
local function remembering(decide)
  local remembered, count = {}, 0
  return function(key)
    local choice = remembered[key]
    if not choice then
      choice = decide(key)
      if count >= 1000 then remembered, count = {}, 0 end
      remembered[key], count = choice, count + 1
    end
    return choice
  end
end

local decision = remembering(decide)

-- The thirty free digits of a UUIDv8 inside a request id; nil if it isn't marked.
local function digits_of(id)
  local before, after = S.request_id.before, S.request_id.after
  if sub(id, 1, #before) ~= before or #id ~= #before + 36 + #after or sub(id, #before + 37) ~= after then return nil end
  local one, two, three, four, five =
    match(sub(id, #before + 1, #before + 36), "^([%da-f]+)%-([%da-f]+)%-8([%da-f]+)%-[89ab]([%da-f]+)%-([%da-f]+)$")
  if not one or #one ~= 8 or #two ~= 4 or #three ~= 3 or #four ~= 3 or #five ~= 12 or sub(one, 1, 4) ~= MARK then return nil end
  local digits = one .. two .. three .. four .. five
  return match(digits, "^c4e0[1-4f]") and digits or nil
end

-- The head of a marked id: the mark, the count, and the bindings.
local function decide_by_head(head)
  local bindings, words = {}, {}
  for at = 6, #head, 4 do
    local number = tonumber(sub(head, at, at + 3), 16)
    local service, site = S.service_of[math.floor(number / 1024)], S.site_of[number % 1024]
    if not service or not site or bindings[service] then return AGENT end
    bindings[service], words[#words + 1] = site, service .. ": " .. site
  end
  return { to = to(bindings[S.service]), text = "{" .. table.concat(words, ", ") .. "}" }
end

local decision_by_head = remembering(decide_by_head)

local function decision_by_id(digits)
  local count = tonumber(sub(digits, 5, 5))
  return count and decision_by_head(sub(digits, 1, 5 + 4 * count)) or AGENT
end

local function new_id(head)
  local digits = sub(
    head .. format("%06x%06x%06x%06x%06x", random(0, 0xffffff), random(0, 0xffffff), random(0, 0xffffff), random(0, 0xffffff), random(0, 0xffffff)),
    1, 30)
  return S.request_id.before .. format("%s-%s-8%s-%x%s-%s", sub(digits, 1, 8), sub(digits, 9, 12), sub(digits, 13, 15),
    random(8, 11), sub(digits, 16, 18), sub(digits, 19, 30)) .. S.request_id.after
end

-- One value of a header; nil if there is none, false if there are several.
local function one(headers, name)
  local n = headers:getNumValues(name)
  if n == 0 then return nil end
  return n == 1 and headers:get(name)
end

local function is_scope(member)
  return find(member .. ";", "^%s*scope%s*[=;]")
end

-- The scope in W3C baggage (of one header or several, which Envoy joins): nil if there is none, false if that isn't clear.
local function in_baggage(baggage)
  if not baggage or not find(baggage, "scope", 1, true) then return nil end
  local text
  for member in gmatch(baggage, "[^,]+") do
    if is_scope(member) then
      local value = match(member .. ";", "^%s*scope%s*=%s*([^;%s]*)%s*;")
      if text or not value then return false end
      text = unescape(value)
    end
  end
  return text
end

-- Baggage in which this scope is the only one.
local function with_scope(baggage, text)
  local members = {}
  for member in gmatch(baggage or "", "[^,]+") do
    if find(member, "%S") and not is_scope(member) then members[#members + 1] = member end
  end
  members[#members + 1] = "scope=" .. escape(text)
  return table.concat(members, ",")
end

-- The scope on a token, and the token without it; the scope is nil if there is none.
local function in_token(token)
  if sub(token, -1) ~= "}" then return nil, token end
  local mark, at = S.token.separator .. "{", nil
  local found = find(token, mark, 1, true)
  while found do at, found = found, find(token, mark, found + 1, true) end -- the last; what is before it is the token's
  if not at then return nil, token end
  return sub(token, at + #S.token.separator), sub(token, 1, at - 1)
end

-- Puts the scope into all that the application propagates. At another service's front, a bare site would mean that one.
local function carry(headers, choice)
  if choice.bare then headers:replace("x-scope", choice.text) end
  if S.request_id then
    local id = one(headers, S.request_id.header)
    local digits = id and digits_of(id)
    if not digits or sub(digits, 1, #choice.head) ~= choice.head then
      headers:replace(S.request_id.header, new_id(choice.head))
    end
  end
  if S.baggage then headers:replace("baggage", with_scope(headers:get("baggage"), choice.text)) end
  if S.token then
    for _, name in ipairs(S.token.headers) do
      local token = one(headers, name)
      if token then
        local _, bare = in_token(token)
        headers:replace(name, S.token.cut and bare or bare .. S.token.separator .. choice.text)
      end
    end
  end
end

-- The first scope on a token, and the tokens without theirs.
local function in_tokens(headers)
  local found, bare_tokens = nil, {}
  for _, name in ipairs(S.token and S.token.headers or {}) do
    local token = one(headers, name)
    if token then
      local scope, bare = in_token(token)
      found = found or scope
      if scope then bare_tokens[name] = bare end
    end
  end
  return found, bare_tokens
end

-- A prefix /~scope/…/ is taken off the path; nil if the path has none, false if that isn't clear.
local function take_from_path(handle, headers)
  local path = headers:get(":path")
  if sub(path, 1, 8) ~= "/~scope/" then return nil end
  local escaped, rest = match(path, "^/~scope/([^/?#]+)(/.*)$")
  if not escaped then return false end
  handle:streamInfo():dynamicMetadata():set("cheops", "prefix", "/~scope/" .. escaped)
  local text = unescape(escaped)
  if headers:getNumValues("x-scope") > 0 or find(text, "[^%g ]") or decision(text) == AGENT then return false end
  headers:replace(":path", rest)
  headers:replace("x-scope", text)
  return text
end

-- The agent's HTTP parser refuses paths that a service may take, so the path goes in a header. The one in its place keeps
-- the routes, which are matched again, from looking X-Scope up in their table.
local function leave_to_agent(headers)
  headers:replace("cheops-path", headers:get(":path"))
  headers:replace(":path", "/~scope/")
  headers:replace("cheops-to", "agent")
end

-- A service that would not know a token with a scope on it gets it without.
local function go(headers, to, bare_tokens)
  if to == "agent" then return leave_to_agent(headers) end
  if S.token and S.token.cut then
    for name, bare in pairs(bare_tokens) do headers:replace(name, bare) end
  end
  headers:replace("cheops-to", to)
end

-- What came by other ways than X-Scope and the URL, which the access log has anyway.
local function note(handle, text)
  handle:streamInfo():dynamicMetadata():set("cheops", "carried", text)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:getNumValues("cheops-plan") > 0 then return leave_to_agent(headers) end
  local text = take_from_path(handle, headers)
  if text == nil then text = one(headers, "x-scope") end
  if text == nil then
    text = in_baggage(headers:get("baggage"))
    if text then note(handle, text) end
  end
  if text then
    local choice = decision(text)
    if choice.text then carry(headers, choice) end
    return go(headers, choice.to, {})
  end
  if text == false then return leave_to_agent(headers) end
  local on_token, bare_tokens = in_tokens(headers)
  local id = S.request_id and one(headers, S.request_id.header)
  local digits = id and digits_of(id)
  if digits then
    local choice = decision_by_id(digits)
    if choice.text then note(handle, choice.text) end
    return go(headers, choice.to, bare_tokens)
  end
  if on_token then note(handle, on_token) end
  go(headers, on_token and decision(on_token).to or "local", bare_tokens)
end
