/**
 * A real server with a password: what is lost without a login on each connection is not
 * lost with one, and what an operator sees when the password is wrong.
 */
import assert from "node:assert/strict";
import { isInstalled } from "../support/is_installed.ts";
import { bytes } from "../support/bytes.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { Sender } from "../../src/sender/sender.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const PASSWORD = "s3cret";
const PACKETS = 600;

/** A redis of its own on loopback, which keeps what it was told on disk. */
class Redis implements AsyncDisposable {
  readonly port: number = ScriptedServer.freePort();
  readonly #dir: string;
  #child: Deno.ChildProcess | undefined;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async start(): Promise<void> {
    this.#child = new Deno.Command("redis-server", {
      args: [
        ...["--port", String(this.port), "--bind", "127.0.0.1", "--dir", this.#dir],
        ...["--requirepass", PASSWORD, "--appendonly", "yes", "--appendfsync", "always"],
        ...["--save", "", "--daemonize", "no"],
      ],
      stdout: "null",
      stderr: "null",
    }).spawn();
    await until("redis answers", async () => (await this.ask("PING")).startsWith("+PONG"));
  }

  /** SIGKILL, in the middle of whatever it does. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.status;
    this.#child = undefined;
  }

  /** Logs in by itself, asks, and returns all up to the end; empty while it does not answer. */
  async ask(command: string): Promise<string> {
    try {
      using conn = await Deno.connect({ hostname: "127.0.0.1", port: this.port });
      await conn.write(bytes(`AUTH ${PASSWORD}\r\n${command}\r\nQUIT\r\n`));
      const text = await new Response(conn.readable).text();
      return text.replace(/^\+OK\r\n/, "");
    } catch {
      return "";
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

const installed = await isInstalled("redis-server");
const leftOut = installed ? "" : " (left out: redis-server is not installed)";

Deno.test({
  name: `redis with a password, killed in mid-stream: nothing is lost${leftOut}`,
  ignore: !installed,
  fn: async () => {
    using dir = new TempDir();
    await using redis = new Redis(dir.path);
    await redis.start();
    await using sender = await Sender.open({
      queue: dir.queue,
      remote: `tcp://127.0.0.1:${redis.port}`,
      maxPacketsPerSecond: 400,
      // Longer than redis may be behind on a busy machine.
      holdMs: 2000,
      backoffFirstMs: 10,
      backoffCapMs: 100,
      session: {
        open: [{ send: `AUTH ${PASSWORD}\r\n`, expect: "+OK\r\n" }],
        heartbeat: { send: "PING\r\n", idleMs: 200, expect: "+PONG" },
        close: "QUIT\r\n",
      },
    });
    await sender.enqueueMany(
      Array.from({ length: PACKETS }, (_, i) => bytes(`RPUSH sent ${i + 1}\r\n`)),
    );
    for (let kills = 0; kills < 2; kills++) {
      const before = sender.stats().drainedPackets;
      await until("a part has got through", () => sender.stats().drainedPackets > before + 150);
      await redis.kill();
      await redis.start();
    }
    await until("everything is confirmed", () => sender.stats().queue.packets === 0);
    assert.ok(sender.stats().connections >= 3);
    assert.equal(sender.stats().queue.deadPackets, 0);
    await sender.close();
    const answer = await redis.ask("LRANGE sent 0 -1");
    const got = new Set([...answer.matchAll(/^\$\d+\r\n(\d+)\r$/gm)].map(([, n]) => Number(n)));
    const lost = Array.from({ length: PACKETS }, (_, i) => i + 1).filter((n) => !got.has(n));
    assert.deepEqual(lost, []);
  },
});

Deno.test({
  name: `redis with another password: its own words, and nothing is tried soon again${leftOut}`,
  ignore: !installed,
  fn: async () => {
    using dir = new TempDir();
    await using redis = new Redis(dir.path);
    await redis.start();
    const told: string[] = [];
    const tell = (words: string) => void told.push(words);
    await using sender = await Sender.open({
      queue: dir.queue,
      remote: `tcp://127.0.0.1:${redis.port}`,
      logger: { debug() {}, info: tell, warn: tell, error: tell },
      session: { open: [{ send: "AUTH wrong\r\n", expect: "+OK\r\n" }] },
    });
    await sender.enqueue(bytes("RPUSH sent 1\r\n"));
    await until("it is refused", () => sender.verdict.kind === "session-refused");
    assert.deepEqual(told, [
      `cannot connect to tcp://127.0.0.1:${redis.port}: the session: the server said ` +
      String.raw`"-WRONGPASS invalid username-password pair or user is disabled.\r\n"; ` +
      String.raw`expected was "+OK\r\n"`,
    ]);
    assert.equal(sender.state, "backing-off");
    assert.equal(sender.stats().queue.packets, 1);
    await sender.close({ deliverTimeoutMs: 0 });
  },
});
