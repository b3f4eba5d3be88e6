/** Several servers on real sockets: delivery goes on with another, from the first packet not confirmed. */
import assert from "node:assert/strict";
import { behindOf, Sender } from "../../src/sender/sender.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import { sendPermissions, Sendq } from "../cli/helpers.ts";
import { resetBy } from "../kernel/helpers.ts";
import { lines, packet, packets } from "../support/packets.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { seen } from "../support/sender_bench.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const FAST = { backoffFirstMs: 1, backoffCapMs: 10 } as const;

/** Two servers and a sender, which go with the test. */
class Pair implements AsyncDisposable {
  readonly dir = new TempDir();
  readonly first = new ScriptedServer().start();
  readonly second = new ScriptedServer().start();
  #sender: Sender | undefined;

  async open(options: Partial<SenderOptions> = {}): Promise<Sender> {
    const { dir: { queue }, first, second } = this;
    const remote = [first.remote, second.remote];
    return this.#sender = await Sender.open({ queue, remote, ...FAST, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sender?.close({ deliverTimeoutMs: 0 });
    await this.first[Symbol.asyncDispose]();
    await this.second[Symbol.asyncDispose]();
    this.dir[Symbol.dispose]();
  }
}

Deno.test("a server that refuses connections: the next one has everything, and it is said", async () => {
  await using pair = new Pair();
  pair.first.stop();
  const told: string[] = [];
  const tell = (words: string) => void told.push(words);
  const logger = { debug: tell, info: tell, warn: tell, error: tell };
  const sender = await pair.open({ logger });
  assert.equal(sender.remote, `${pair.first.remote},${pair.second.remote}`);
  await sender.enqueueMany(packets(3));
  const connection = await pair.second.accept();
  assert.equal(await connection.readUntil("packet 3\n"), lines(3));
  const words = told.find((line) => line.startsWith("cannot connect")) ?? "";
  assert.ok(words.includes(`${pair.first.remote}: `), words);
  assert.ok(
    told.some((line) => line === `turned from ${pair.first.remote} to ${pair.second.remote}`),
  );
});

Deno.test("a server that dies in mid-stream: the next one begins with the first packet not confirmed", async () => {
  await using pair = new Pair();
  const sender = await pair.open({ holdMs: 60_000 });
  await sender.enqueueMany(packets(3));
  const connection = await pair.first.accept();
  assert.equal(await connection.readUntil("packet 3\n"), lines(3));
  await sender.enqueue(packet(4));
  await until("its kernel has it", () => sender.stats().inFlightPackets === 0);
  connection.close(); // With something unread: a reset.
  const other = await pair.second.accept();
  assert.equal(await other.readUntil("packet 4\n"), lines(4));
});

Deno.test("a server that accepts and soon ends, as a proxy without its server does, has failed", async () => {
  await using pair = new Pair();
  const sender = await pair.open({ holdMs: 60_000 });
  await sender.enqueue(packet(1));
  const connection = await pair.first.accept();
  await connection.readUntil("packet 1\n");
  connection.close();
  const other = await pair.second.accept();
  assert.equal(await other.readUntil("packet 1\n"), lines(1));
});

Deno.test("a server that ends each connection has failed, unless it is known to, by the options of now", async () => {
  await using pair = new Pair();
  const options = { holdMs: 0, onPeerFin: "confirm" } as const;
  const sender = await pair.open(options);
  const { queue, remote } = sender;
  for (const id of [1, 2, 3]) {
    await sender.enqueue(packet(id));
    const connection = await (id < 3 ? pair.first : pair.second).accept();
    assert.equal(await connection.readUntil(`packet ${id}\n`), lines(1, id));
    await sender.drained();
    if (id === 1) {
      behindOf(sender).reconfigure({ queue, remote, ...FAST, ...options, onPeerFin: "reconnect" });
    }
    const over = seen(sender, ({ words }) => /the peer closed the connection/.test(words));
    connection.close();
    await over;
  }
});

Deno.test("a server that refuses the session is passed over", async () => {
  await using pair = new Pair();
  const session = { open: [{ send: "HI\n", expect: "OK\n" }], refusedBackoffFirstMs: 100 };
  const sender = await pair.open({ session });
  await sender.enqueue(packet(1));
  const connection = await pair.first.accept();
  await connection.readUntil("HI\n");
  await connection.write("NO\n");
  const other = await pair.second.accept();
  await other.readUntil("HI\n");
  await other.write("OK\n");
  assert.match(await other.readUntil("packet 1\n"), /packet 1\n$/);
});

Deno.test("a server that refuses the session does not keep the next one waiting", async () => {
  await using pair = new Pair();
  // Longer than anybody waits here, for the one that has refused.
  const session = {
    open: [{ send: "HI\n", expect: "OK\n", refuse: "NO" }],
    refusedBackoffFirstMs: 600_000,
  };
  pair.second.stop();
  const sender = await pair.open({ session });
  await sender.enqueue(packet(1));
  const connection = await pair.first.accept();
  await connection.readUntil("HI\n");
  await connection.write("NO\n");
  // The next one cannot be reached yet, and is asked again and again.
  await until("it was asked", () => sender.stats().failedAttempts >= 5);
  pair.second.start();
  const other = await pair.second.accept();
  await other.readUntil("HI\n");
  await other.write("OK\n");
  assert.match(await other.readUntil("packet 1\n"), /packet 1\n$/);
  assert.equal(pair.first.connections.size, 1, "it was asked once");
});

Deno.test("a server that acknowledges and resets is passed over", async () => {
  await using pair = new Pair();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const first = `tcp://127.0.0.1:${listener.addr.port}`;
  const sender = await pair.open({ holdMs: 60_000, remote: [first, pair.second.remote] });
  await sender.enqueue(packet(1));
  const connection = await listener.accept();
  await until("its kernel has it", () => sender.stats().heldPackets === 1);
  resetBy(connection);
  const other = await pair.second.accept();
  assert.equal(await other.readUntil("packet 1\n"), lines(1));
});

Deno.test("a server that acknowledges and does not answer is passed over", async () => {
  const heartbeat = { send: "PING\n", idleMs: 100, expect: "PONG", answerTimeoutMs: 200 };
  for (const options of [{ responseTimeoutMs: 200 }, { holdMs: 60_000, session: { heartbeat } }]) {
    await using pair = new Pair();
    const sender = await pair.open(options);
    await sender.enqueue(packet(1));
    const connection = await pair.first.accept();
    await connection.readUntil("packet 1\n");
    const other = await pair.second.accept();
    assert.match(await other.readUntil("packet 1\n"), /packet 1\n$/);
  }
});

Deno.test("the preferred server is gone back to, and nothing is sent twice in a quiet moment", async () => {
  await using pair = new Pair();
  pair.first.stop();
  const sender = await pair.open({ holdMs: 0, returnAfterMs: 1000 });
  await sender.enqueue(packet(1));
  const other = await pair.second.accept();
  assert.equal(await other.readUntil("packet 1\n"), lines(1));
  await until("it is confirmed", () => sender.stats().queue.packets === 0);
  pair.first.start();
  const back = seen(sender, ({ words }) => words.includes("is back, and preferred"));
  await back;
  await sender.enqueue(packet(2));
  // What only looked has said nothing.
  let text = "";
  while (text === "") {
    const connection = await pair.first.accept();
    text = await connection.readUntil("packet 2\n").catch(() => "");
  }
  assert.equal(text, "packet 2\n");
  assert.equal(sender.stats().redeliveredPackets, 0);
});

for (
  const [open, options] of [
    ["not answered", { confirm: { framing: "lines", accepted: "OK" } }],
    ["held", { holdMs: 5000 }],
  ] as const
) {
  Deno.test(`where packets are ${open} there is no quiet moment in which to go back`, async () => {
    await using pair = new Pair();
    pair.first.stop();
    const sender = await pair.open({ returnAfterMs: 3500, ...options });
    await sender.enqueue(packet(1));
    const other = await pair.second.accept();
    assert.equal(await other.readUntil("packet 1\n"), lines(1));
    pair.first.start();
    // A look a second: with the fifth one it was there for longer than that.
    for (let looks = 0; looks < 5; looks++) await pair.first.accept();
    await other.write("OK\n");
    await until("it is confirmed", () => sender.stats().queue.packets === 0);
    assert.equal(sender.stats().redeliveredPackets, 0);
  });
}

Deno.test("a connection that its server has half-closed is left for the preferred one, too", async () => {
  await using pair = new Pair();
  pair.first.stop();
  const sender = await pair.open({ onPeerFin: "keep-sending", holdMs: 0, returnAfterMs: 1000 });
  await sender.enqueue(packet(1));
  const other = await pair.second.accept();
  await other.halfClose();
  assert.equal(await other.readUntil("packet 1\n"), lines(1));
  pair.first.start();
  await until("it is left", () => sender.state === "idle");
  await sender.enqueue(packet(2));
  let text = "";
  while (text === "") {
    const connection = await pair.first.accept();
    text = await connection.readUntil("packet 2\n").catch(() => "");
  }
  assert.equal(text, "packet 2\n");
});

Deno.test("a list of which one is several by itself has all of them, in order", async () => {
  await using pair = new Pair();
  const nobody = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  const remote = [`${nobody},${pair.first.remote}`, pair.second.remote];
  const sender = await pair.open({ remote });
  assert.equal(sender.remote, `${nobody},${pair.first.remote},${pair.second.remote}`);
});

Deno.test("several remotes of several kinds, twice the same, or one that connects to us are refused", async () => {
  using dir = new TempDir();
  const cases: [string[], RegExp][] = [
    [["tcp://127.0.0.1:1", "tls://127.0.0.1:2"], /all tcp:\/\/, all tls:\/\/ or all unix:/],
    [["tcp://127.0.0.1:1", "listen://127.0.0.1:2"], /none is listen:\/\//],
    [["tcp://127.0.0.1:1", "tcp://127.0.0.1:1"], /is there twice/],
    [[], /there is no remote/],
  ];
  for (const [remote, message] of cases) {
    await assert.rejects(Sender.open(dir.queue, remote), { name: "TypeError", message });
  }
  assert.deepEqual([...Deno.readDirSync(dir.path)], []);
});

Deno.test("send with several servers: commas in the argument, and a permission for each", async () => {
  await using pair = new Pair();
  pair.first.stop();
  const served = pair.second.serve(async (connection) => {
    assert.equal(await connection.readUntil("b\n"), "a\nb\n");
  });
  const remote = `${pair.first.remote},${pair.second.remote}`;
  // What it grants for one server it has to grant for the other.
  const permissions = sendPermissions(remote.replaceAll("tcp://", ""), pair.dir.queue);
  await using send = new Sendq(permissions, ["send", remote, "-q", pair.dir.queue, "--hold=0s"]);
  await send.write("a\nb\n");
  await send.endInput();
  assert.equal(await send.ended(), 0);
  await pair.second[Symbol.asyncDispose]();
  await served;
});
