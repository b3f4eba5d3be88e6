/**
 * Real servers that answer: what is lost without listening to them is not lost with it,
 * and what they refuse is a dead letter in their own words.
 */
import assert from "node:assert/strict";
import { Sender } from "../../src/sender/sender.ts";
import { isInstalled } from "../support/is_installed.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const PACKETS = 600;
/** Answers of redis end like this, all that it says to these commands. */
const REDIS = { framing: "delimiter:0d0a", accepted: /^[+:]/, refused: /^-/ } as const;

/** A server's process on a free port, which can be killed and started again. */
class ServerProcess implements AsyncDisposable {
  readonly port: number = ScriptedServer.freePort();
  readonly #command: string;
  readonly #argsFor: (port: number) => string[];
  #child: Deno.ChildProcess | undefined;

  constructor(command: string, argsFor: (port: number) => string[]) {
    this.#command = command;
    this.#argsFor = argsFor;
  }

  get remote(): string {
    return `tcp://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    this.#child = new Deno.Command(this.#command, {
      args: this.#argsFor(this.port),
      stdout: "null",
      stderr: "null",
    }).spawn();
    await until("the server listens", async () => {
      try {
        (await Deno.connect({ hostname: "127.0.0.1", port: this.port })).close();
        return true;
      } catch {
        return false;
      }
    });
  }

  /** SIGKILL, in the middle of whatever it does. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.status;
    this.#child = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

function linesOf(file: string): string[] {
  try {
    return Deno.readTextFileSync(file).trimEnd().split("\n");
  } catch {
    return [];
  }
}

/** `m1` to `m600`, those that the server takes, or those that it refuses. */
function ids(refused: boolean): string[] {
  return Array.from({ length: PACKETS }, (_, i) => `m${i + 1}`)
    .filter((id) => id.endsWith("7") === refused);
}

Deno.test("HL7 with simple-hl7, killed in mid-stream: nothing is lost, refusals are kept", async () => {
  using dir = new TempDir();
  const file = `${dir.path}/taken`;
  const program = new URL("hl7_server.ts", import.meta.url).pathname;
  await using server = new ServerProcess(
    Deno.execPath(),
    (port) => ["run", "--no-check", "-A", program, String(port), file],
  );
  await server.start();
  await using sender = await Sender.open({
    queue: dir.queue,
    remote: server.remote,
    maxPacketsPerSecond: 300,
    backoffFirstMs: 10,
    backoffCapMs: 100,
    confirm: { framing: "mllp", accepted: /\rMSA\|[AC]A\|/, refused: /\rMSA\|[AC][ER]\|/ },
  });
  const messages = Array.from(
    { length: PACKETS },
    (_, i) => `\x0bMSH|^~\\&|a|b|c|d|20260101||ADT^A01|m${i + 1}|P|2.5\rPID|1\r\x1c\r`,
  );
  await sender.enqueueMany(messages.slice(0, PACKETS / 2));
  await until("a sixth is taken", () => linesOf(file).length >= PACKETS / 6);
  await server.kill();
  await sender.enqueueMany(messages.slice(PACKETS / 2));
  await server.start();
  await until("all is answered", () => sender.stats().queue.packets === 0);
  const taken = linesOf(file);
  assert.deepEqual([...new Set(taken)], ids(false));
  // The one that was taken and not answered when the server died.
  assert.ok(taken.length <= ids(false).length + 1, `${taken.length - ids(false).length} twice`);
  const dead = await sender.queue.deadLetters(0, Infinity);
  assert.deepEqual(
    dead.map(({ reason, words = "" }) => [reason, /MSA\|AE\|(m\d+)/.exec(words)?.[1]]),
    ids(true).map((id) => ["refused", id]),
  );
});

const installed = await isInstalled("redis-server");

Deno.test({
  name: `redis, many commands unanswered, killed in mid-stream: nothing is lost${
    installed ? "" : " (left out: redis-server is not installed)"
  }`,
  ignore: !installed,
  fn: async () => {
    using dir = new TempDir();
    await using server = new ServerProcess("redis-server", (port) => [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", dir.path, "--save", ""],
      ...["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"],
    ]);
    await server.start();
    await using sender = await Sender.open({
      queue: dir.queue,
      remote: server.remote,
      maxPacketsPerSecond: 600,
      backoffFirstMs: 10,
      backoffCapMs: 100,
      // While it loads, it refuses everything: that is no answer to a packet.
      session: { open: [{ send: "PING\r\n", expect: "+PONG\r\n" }], refusedBackoffFirstMs: 100 },
      confirm: { ...REDIS, maxUnanswered: 50 },
    });
    const commands = Array.from({ length: PACKETS }, (_, i) => {
      const id = `m${i + 1}`;
      return id.endsWith("7") ? `NOSUCH ${id}\r\n` : `RPUSH list ${id}\r\n`;
    });
    await sender.enqueueMany(commands.slice(0, PACKETS / 2));
    const { lastId } = sender.queue;
    await until("a sixth is answered", () => lastId - sender.stats().queue.packets >= PACKETS / 6);
    await server.kill();
    await sender.enqueueMany(commands.slice(PACKETS / 2));
    await server.start();
    await until("all is answered", () => sender.stats().queue.packets === 0);
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
    await conn.write(new TextEncoder().encode("LRANGE list 0 -1\r\nQUIT\r\n"));
    const text = await new Response(conn.readable).text();
    const taken = text.split("\r\n").filter((line) => /^m\d+$/.test(line));
    assert.deepEqual([...new Set(taken)].sort(), ids(false).sort());
    assert.ok(taken.length <= ids(false).length + 50, `${taken.length} in all`);
    const dead = await sender.queue.deadLetters(0, Infinity);
    assert.equal(dead.length, ids(true).length);
    for (const { reason, words } of dead) {
      assert.equal(reason, "refused");
      assert.match(words ?? "", /^"-ERR unknown command 'NOSUCH'/);
    }
  },
});
