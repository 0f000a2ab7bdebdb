-- What HAProxy would do in the place of our front, for one service: a scope that names one known site chooses that
-- site's backend; doubt is a 400, since there is no agent behind it.

local SERVICE = "items"
local BACKENDS = { Site1 = "here", Site2 = "there" }
local match = string.match

core.register_action("choose", { "http-req" }, function(txn)
  local scopes = txn.http:req_get_headers()["x-scope"]
  if scopes == nil then return txn:set_var("txn.to", "here") end
  if scopes[1] ~= nil then return end -- they count from 0: a second one is doubt
  local service, site = match(scopes[0], "^%s*{%s*(%w[%w_.-]*)%s*:%s*(%w[%w_.-]*)%s*}%s*$")
  if service == SERVICE and BACKENDS[site] then txn:set_var("txn.to", BACKENDS[site]) end
end)
