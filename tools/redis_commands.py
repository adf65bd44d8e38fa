# ruff: noqa: SIM905 (A line for each word would be a long page.)
"""The names of all commands of Redis 7.0, as its COMMAND LIST tells them: what docs/commands.md is measured by."""

COMMANDS = """
acl append asking auth bgrewriteaof bgsave bitcount bitfield bitfield_ro bitop bitpos blmove blmpop blpop brpop
brpoplpush bzmpop bzpopmax bzpopmin client cluster command config copy dbsize debug decr decrby del discard dump echo
eval eval_ro evalsha evalsha_ro exec exists expire expireat expiretime failover fcall fcall_ro flushall flushdb function
geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore get
getbit getdel getex getrange getset hdel hello hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset
hrandfield hscan hset hsetnx hstrlen hvals incr incrby incrbyfloat info keys lastsave latency lcs lindex linsert llen
lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim memory mget migrate module monitor move mset msetnx
multi object persist pexpire pexpireat pexpiretime pfadd pfcount pfdebug pfmerge pfselftest ping psetex psubscribe psync
pttl publish pubsub punsubscribe quit randomkey readonly readwrite rename renamenx replconf replicaof reset restore
restore-asking role rpop rpoplpush rpush rpushx sadd save scan scard script sdiff sdiffstore select set setbit setex
setnx setrange shutdown sinter sintercard sinterstore sismember slaveof slowlog smembers smismember smove sort sort_ro
spop spublish srandmember srem sscan ssubscribe strlen subscribe substr sunion sunionstore sunsubscribe swapdb sync time
touch ttl type unlink unsubscribe unwatch wait watch xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange
xread xreadgroup xrevrange xsetid xtrim zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore
zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem
zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion
zunionstore
""".split()

SUBCOMMANDS = {
    "acl": "cat deluser dryrun genpass getuser help list load log save setuser users whoami".split(),
    "client": """
        caching getname getredir help id info kill list no-evict pause reply setname tracking
        trackinginfo unblock unpause
    """.split(),
    "cluster": """
        addslots addslotsrange bumpepoch count-failure-reports countkeysinslot delslots
        delslotsrange failover flushslots forget getkeysinslot help info keyslot links meet myid
        nodes replicas replicate reset saveconfig set-config-epoch setslot shards slaves slots
    """.split(),
    "command": "count docs getkeys getkeysandflags help info list".split(),
    "config": "get help resetstat rewrite set".split(),
    "function": "delete dump flush help kill list load restore stats".split(),
    "latency": "doctor graph help histogram history latest reset".split(),
    "memory": "doctor help malloc-stats purge stats usage".split(),
    "module": "help list load loadex unload".split(),
    "object": "encoding freq help idletime refcount".split(),
    "pubsub": "channels help numpat numsub shardchannels shardnumsub".split(),
    "script": "debug exists flush help kill load".split(),
    "slowlog": "get help len reset".split(),
    "xgroup": "create createconsumer delconsumer destroy help setid".split(),
    "xinfo": "consumers groups help stream".split(),
}

REDIS_7_0 = frozenset(COMMANDS) | {f"{name}|{sub}" for name, subs in SUBCOMMANDS.items() for sub in subs}
"""Subcommands as `container|name`."""
