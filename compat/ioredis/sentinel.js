// ioredis finds the leader through Sentinel commands, and goes on with the next one when that is killed, or hangs.
//
// A leader that is killed closes its connections, and ioredis asks the Sentinels by itself. One that hangs is noticed by
// its `failoverDetector`, which subscribes to +switch-master. (The two do not go together: ioredis 6.0.0 ends for good when
// +switch-master comes while it is looking for the next leader already.)
//
// `make compat` runs this. SOFADB is the `sofadb` command to use, by default that of this checkout's .venv.

"use strict";

const assert = require("node:assert");
const { spawn } = require("node:child_process");
const { on, once } = require("node:events");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { Redis } = require("ioredis");
const { version } = require("ioredis/package.json");

const SOFADB = process.env.SOFADB || path.join(__dirname, "..", "..", ".venv", "bin", "sofadb");
const PORT = 21001;
const SENTINELS = [0, 1, 2].map((number) => ({ host: "127.0.0.1", port: PORT + number }));
const PATIENCE_MS = 15000;

const clients = [];

function connect(options) {
  const client = new Redis(options);
  clients.push(client);
  client.on("error", () => {}); // A connection that is refused is tried again.
  return client;
}

function find(options) {
  return connect({
    sentinels: SENTINELS,
    name: "sofadb",
    maxRetriesPerRequest: null, // Commands wait while nobody leads.
    sentinelRetryStrategy: () => 20,
    sentinelCommandTimeout: 500, // A node that hangs takes connections and says nothing; perhaps it is the first one asked.
    retryStrategy: () => 20,
    disconnectTimeout: 100,
    ...options,
  });
}

async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain until ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function hear(messages, text) {
  for await (const [, heard] of messages) if (heard === text) return;
}

// Let the leader suffer `signal`, and see a client, its reader and a listener come through. Returns the leader's process id.
async function lose(signal, failoverDetector) {
  const master = find({ failoverDetector });
  const replica = find({ failoverDetector, role: "slave" });
  const subscribed = failoverDetector && once(master.connector.emitter, "failoverSubscribed");
  assert.strictEqual(await within(master.set("key", `before ${signal}`), "the leader is found"), "OK");
  assert.strictEqual(await within(replica.get("key"), "a replica is found"), `before ${signal}`);
  assert.strictEqual((await master.role())[0], "master");
  assert.strictEqual((await replica.role())[0], "slave");
  await within(subscribed, "the failover detector has subscribed");

  const { process_id: pid, leader, node } = JSON.parse(await master.call("SOFA.INFO"));
  assert.strictEqual(node, leader);
  const [, oldPort] = await master.call("SENTINEL", "get-master-addr-by-name", "sofadb");
  const sentinels = await master.call("SENTINEL", "sentinels", "sofadb");
  const listener = connect({ host: "127.0.0.1", port: Number(sentinels[0][5]) });
  await listener.subscribe("+switch-master");
  const messages = on(listener, "message");

  process.kill(pid, signal);
  const lostAt = Date.now();
  assert.strictEqual(await within(master.set("key", `after ${signal}`), "it writes again"), "OK");
  const pause = Date.now() - lostAt;
  if (signal === "SIGKILL") { // A node that hangs is named as a replica for a while.
    assert.strictEqual(await within(replica.get("key"), "it reads again"), `after ${signal}`);
  }
  assert.strictEqual((await master.role())[0], "master");
  const [, newPort] = await master.call("SENTINEL", "get-master-addr-by-name", "sofadb");
  assert.notStrictEqual(newPort, oldPort);
  const text = `sofadb 127.0.0.1 ${oldPort} 127.0.0.1 ${newPort}`;
  await within(hear(messages, text), `+switch-master says ${text}`);
  console.log(`ioredis ${version}: the same client wrote again ${pause} ms after its leader's ${signal}`);
  return pid;
}

async function main() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "sofadb-compat-"));
  const cluster = spawn(SOFADB, ["up", "--port", String(PORT), "--dir", directory], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await within(once(cluster.stdout, "data"), "the cluster is up");
    const pid = await lose("SIGSTOP", true);
    process.kill(pid, "SIGCONT");
    await lose("SIGKILL", false);
  } finally {
    for (const client of clients) client.disconnect();
    const ended = once(cluster, "exit");
    if (cluster.exitCode === null && cluster.kill("SIGTERM")) await ended;
    fs.rmSync(directory, { recursive: true });
  }
}

main().catch((problem) => {
  console.error(problem);
  process.exitCode = 1;
});
