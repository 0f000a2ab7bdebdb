"""Runs a site's Lua as Envoy does, in this process: LuaJIT (as in Envoy) and a handle that knows what the scripts use.

The handle does with headers what Envoy 1.40 was seen to do: `get` joins several values with a comma, `replace` takes
the place of all of them.
"""

from dataclasses import dataclass
from typing import Any

from lupa.luajit21 import LuaRuntime

from cheops.model import Headers, Request

_HANDLE = rb"""
function new_headers(names, values)
  local H = { names = names, values = values }
  function H:get(name)
    local found = {}
    for i, key in ipairs(self.names) do
      if key == name then found[#found + 1] = self.values[i] end
    end
    if #found > 0 then return table.concat(found, ",") end
  end
  function H:getNumValues(name)
    local count = 0
    for _, key in ipairs(self.names) do
      if key == name then count = count + 1 end
    end
    return count
  end
  function H:add(name, value)
    assert(type(value) == "string", "a header's value is a string")
    self.names[#self.names + 1], self.values[#self.values + 1] = name, value
  end
  function H:remove(name)
    for i = #self.names, 1, -1 do
      if self.names[i] == name then table.remove(self.names, i) table.remove(self.values, i) end
    end
  end
  function H:replace(name, value)
    self:remove(name)
    self:add(name, value)
  end
  return H
end

function new_handle(headers, request, metadata)
  local dynamic = {}
  function dynamic:get(filter) return metadata[filter] end
  function dynamic:set(filter, key, value)
    metadata[filter] = metadata[filter] or {}
    metadata[filter][key] = value
  end
  local info = {}
  function info:dynamicMetadata() return dynamic end
  local handle = {}
  function handle:headers() return headers end
  function handle:requestHeaders() return request end
  function handle:streamInfo() return info end
  return handle
end
"""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What scope.lua made of a request.

    to: where it goes; request: how whoever gets it will see it; path: what the routes see; prefix: what location.lua
    will see.
    """

    to: str
    request: Request
    path: bytes
    prefix: str | None


class Script:
    """One script in one Lua state, as one worker of Envoy has it."""

    def __init__(self, text: str) -> None:
        self._lua = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._lua.execute(_HANDLE)
        self._lua.execute(text.encode())
        self._globals: Any = self._lua.globals()

    def choose(self, request: Request) -> Chosen:
        """scope.lua, on a request."""
        headers, metadata = self._headers(((b":path", request.target), *request.headers)), self._lua.table()
        self._globals.envoy_on_request(self._globals.new_handle(headers, headers, metadata))
        left = dict(seen) if (seen := metadata[b"cheops"]) else {}
        pairs = _pairs(headers)
        (to,) = [value for name, value in pairs if name == b"cheops-to"]
        (path,) = [value for name, value in pairs if name == b":path"]
        (target,) = [value for name, value in pairs if name == b"cheops-path"] or [path]
        changed = Request(
            service=request.service,
            method=request.method,
            target=target,
            headers=tuple(pair for pair in pairs if pair[0] not in (b"cheops-to", b"cheops-path", b":path")),
        )
        prefix = left[b"prefix"].decode("latin1") if b"prefix" in left else None
        return Chosen(to=to.decode(), request=changed, path=path, prefix=prefix)

    def mend(self, request: Headers, response: Headers, prefix: str | None = None) -> Headers:
        """location.lua, on a response: its headers afterwards."""
        metadata = self._lua.table()
        if prefix is not None:
            metadata[b"cheops"] = self._lua.table_from({b"prefix": prefix.encode()})
        headers = self._headers(response)
        self._globals.envoy_on_response(self._globals.new_handle(headers, self._headers(request), metadata))
        return _pairs(headers)

    def value(self, expression: str) -> Any:
        return self._lua.eval(expression.encode())

    def _headers(self, headers: Headers) -> Any:
        names, values = zip(*headers, strict=True) if headers else ((), ())
        return self._globals.new_headers(self._lua.table(*names), self._lua.table(*values))


def _pairs(headers: Any) -> Headers:
    return tuple(zip(headers[b"names"].values(), headers[b"values"].values(), strict=True))
