/**
 * Runs what stands in `examples/tcp/`, with the permissions that each names.
 */
import assert from "node:assert/strict";
import { LineChild, type Spawn, spawnHere } from "../../lab/child.ts";
import { networkAvailable, TestNetwork } from "../../lab/network.ts";
import { libcGrant } from "../../src/kernel/libc.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { within } from "../support/until.ts";

const examples = new URL("../../examples/tcp/", import.meta.url).pathname;

function startExample(spawn: Spawn, name: string, address: string, port: number): LineChild {
  return new LineChild(spawn, Deno.execPath(), [
    ...["run", "--quiet", "--no-prompt", "--no-check"],
    ...[`--allow-net=${address}:${port}`, `--allow-ffi=${libcGrant()}`],
    ...[`${examples}${name}`, address, String(port)],
  ]);
}

/** The next line that fits. */
async function hear(child: LineChild, fits: RegExp): Promise<string> {
  for (;;) {
    const line = await within(`a line like ${fits}`, child.hear(), 60_000);
    if (fits.test(line)) return line;
  }
}

Deno.test("examples/tcp/http_round_trips.ts logs the round trip of each request", async () => {
  const port = ScriptedServer.freePort();
  await using server = startExample(spawnHere, "http_round_trips.ts", "127.0.0.1", port);
  await hear(server, /^listening on /);
  for (const path of ["/one", "/two"]) {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    assert.equal(await response.text(), "hello\n");
    const line = await hear(server, new RegExp(`GET ${path}`));
    assert.match(line, /^127\.0\.0\.1:\d+ GET \/\w+: round trip \d+\.\d\d ms ± \d+\.\d\d, 0 seg/);
  }
});

async function version(program: string): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args: ["--version"] }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const noRedis = await version("redis-server") ? undefined : "there is no redis-server";
const network = await networkAvailable();
const noNetwork = network.ok ? undefined : network.reason;

class RedisServer extends LineChild {
  constructor(spawn: Spawn, directory: string, address: string, port: number) {
    super(spawn, "redis-server", [
      ...["--bind", address, "--port", String(port), "--protected-mode", "no"],
      ...["--save", "", "--dir", directory],
    ]);
  }

  ready(): Promise<string> {
    return hear(this, /Ready to accept connections/);
  }
}

Deno.test({
  name: "examples/tcp/redis_client.ts counts in Redis, and connects anew when Redis has ended" +
    (noRedis === undefined ? "" : ` (left out: ${noRedis})`),
  ignore: noRedis !== undefined,
  async fn() {
    using directory = new TempDir();
    const port = ScriptedServer.freePort();
    const place = [spawnHere, directory.path, "127.0.0.1", port] as const;
    await using first = new RedisServer(...place);
    await first.ready();
    await using client = startExample(spawnHere, "redis_client.ts", "127.0.0.1", port);
    await hear(client, /^count 2$/);
    await first[Symbol.asyncDispose]();
    await hear(client, /^Redis has closed the connection$/);
    await using second = new RedisServer(...place);
    await second.ready();
    // Nothing was saved: it begins anew.
    await hear(client, /^count 1$/);
  },
});

const obstacle = noRedis ?? noNetwork;
Deno.test({
  name: "examples/tcp/redis_client.ts notices a dead path after 3 s" +
    (obstacle === undefined ? "" : ` (left out: ${obstacle})`),
  ignore: obstacle !== undefined,
  async fn() {
    using directory = new TempDir();
    await using network = await TestNetwork.create();
    const place = [network.serverAddress, 6379] as const;
    await using redis = new RedisServer(network.spawnerIn("server"), directory.path, ...place);
    await redis.ready();
    await using client = startExample(network.spawnerIn("sender"), "redis_client.ts", ...place);
    await hear(client, /^count 2$/);
    const heal = await network.silentDrop({ direction: "both" });
    // Silence as the watch has counted it, whatever held this machine up.
    await hear(client, /^The connection is dead: path dead: not a sign of the peer for 3\.[0-3] s/);
    await heal();
    await hear(client, /^connected$/);
    await hear(client, /^count \d+$/);
  },
});
