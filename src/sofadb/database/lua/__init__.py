"""Lua scripts: Lua 5.1 as Redis 7.0 offers it, deterministic and bounded (docs/decisions/0013-scripts.md).

- `engine`: the one interpreter of this process, and one script's run.   `rewriting`: checks in compiled code.
- `sandbox.lua`: what scripts live in, and what it costs.   `strings.lua`: their string library, and its patterns.
- `redis.lua`: the table `redis`.   `cjson.lua`, `cmsgpack.lua`, `numbers.lua` (with `libraries`): what else Redis brings along.
"""
