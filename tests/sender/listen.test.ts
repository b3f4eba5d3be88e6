import assert from "node:assert/strict";
import type { SenderStatus } from "../../mod.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { readRunningSender } from "../../src/sender/report.ts";
import { Sender } from "../../src/sender/sender.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

/** A server that connects to us. */
class Device implements Disposable {
  text = "";
  ended = false;
  readonly #conn: Deno.TcpConn;

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    void this.#read();
  }

  static async connect(remote: string): Promise<Device> {
    const { hostname, port } = new URL(remote);
    return new Device(await Deno.connect({ hostname, port: Number(port) }));
  }

  [Symbol.dispose](): void {
    try {
      this.#conn.close();
    } catch {
      // It has ended by itself.
    }
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(4096);
    try {
      for (;;) {
        const length = await this.#conn.read(buffer);
        if (length === null) break;
        this.text += new TextDecoder().decode(buffer.subarray(0, length));
      }
    } catch {
      // Reset, or closed by the test.
    }
    this.ended = true;
  }
}

const address = () => `listen://127.0.0.1:${ScriptedServer.freePort()}`;

/** Every change that a sender tells. */
function changesOf(sender: Sender): SenderStatus[] {
  const changes: SenderStatus[] = [];
  void (async () => {
    for await (const change of sender.status()) changes.push(change);
  })();
  return changes;
}

Deno.test("packets wait for a server that connects to us, and no attempt fails meanwhile", async () => {
  using directory = new TempDir();
  const remote = address();
  await using sender = await Sender.open(directory.queue, remote, {
    holdMs: 0,
  });
  const changes = changesOf(sender);
  await sender.enqueue("one\n");
  await until("the wait", () => sender.state === "connecting");
  assert.equal(sender.condition.headline, "Waiting for the server");
  assert.equal(sender.condition.tone, "warning");
  assert.match(sender.condition.detail, /Nobody is connected to listen:\/\/127\.0\.0\.1:/);
  assert.equal(sender.stats().failedAttempts, 0);
  using device = await Device.connect(remote);
  await sender.drained();
  await until("the packet", () => device.text === "one\n");
  assert.equal(sender.stats().failedAttempts, 0);
  assert.deepEqual(changes.filter(({ failure }) => failure), []);
});

Deno.test("a server that comes back takes the place of its old connection, and nothing is lost", async () => {
  using directory = new TempDir();
  const remote = address();
  await using sender = await Sender.open(directory.queue, remote, {
    holdMs: 60_000,
    backoffCapMs: 0,
    backoffFirstMs: 0,
  });
  using old = await Device.connect(remote);
  await sender.enqueue("one\n");
  await until("the packet", () => old.text === "one\n");
  using device = await Device.connect(remote);
  // It was not held yet, so the new one has it, too.
  await until("the packet once more", () => device.text === "one\n");
  await until("the end of the old one", () => old.ended);
  await sender.enqueue("two\n");
  await until("the next", () => device.text === "one\ntwo\n");
  assert.equal(old.text, "one\n");
  // The hold is longer than anybody waits here.
  await sender.close({ deliverTimeoutMs: 0 });
});

Deno.test('with "refuse" a second server is closed, and the first goes on', async () => {
  using directory = new TempDir();
  const remote = address();
  await using sender = await Sender.open(directory.queue, remote, {
    secondConnection: "refuse",
    holdMs: 0,
  });
  using first = await Device.connect(remote);
  await until("the first", () => sender.state === "connected");
  using second = await Device.connect(remote);
  await until("its end", () => second.ended);
  await sender.enqueue("one\n");
  await until("the packet", () => first.text === "one\n");
  assert.equal(second.text, "");
});

Deno.test("who may not connect gets nothing", async () => {
  using directory = new TempDir();
  const remote = address();
  await using sender = await Sender.open(directory.queue, `${remote}?from=192.0.2.7,10.0.0.0/8`);
  await sender.enqueue("secret\n");
  using stranger = await Device.connect(remote);
  await until("its end", () => stranger.ended);
  assert.equal(stranger.text, "");
  assert.equal(sender.state, "connecting");
  assert.equal(
    sender.condition.detail,
    `Nobody is connected to ${remote}. 127.0.0.1 has tried, and is not in ?from=.`,
  );
  await sender.close({ deliverTimeoutMs: 0 });
});

Deno.test("who may not connect is told to other processes, too, however long nothing has happened", async () => {
  using directory = new TempDir();
  const remote = address();
  const clock = new ManualClock();
  await using sender = await Sender.open(directory.queue, `${remote}?from=192.0.2.7`, { clock });
  await sender.enqueue("secret\n");
  await until("it waits", () => sender.state === "connecting");
  const detail = async () => {
    clock.advance(1000);
    return (await readRunningSender(directory.queue))?.report?.condition.detail;
  };
  for (let second = 0; second < 10; second++) await detail();
  const before = await detail();
  using stranger = await Device.connect(remote);
  await until("its end", () => stranger.ended);
  const after = await detail();
  // By a clock that stands still no other end would come.
  await sender.close({ deliverTimeoutMs: 0 });
  const nobody = `Nobody is connected to ${remote}.`;
  assert.deepEqual([before, after], [
    nobody,
    `${nobody} 127.0.0.1 has tried, and is not in ?from=.`,
  ]);
});

Deno.test("a sender that only waits is closed at once, and gives its address back", async () => {
  using directory = new TempDir();
  const remote = address();
  const sender = await Sender.open(directory.queue, remote);
  await until("the wait", () => sender.state === "connecting");
  await sender.close({ deliverTimeoutMs: 600_000 });
  await using _next = await Sender.open(directory.queue, remote);
  await assert.rejects(
    Sender.open(directory.file("other.db"), remote),
    Deno.errors.AddrInUse,
  );
});

Deno.test("a session is opened with a server that has connected to us", async () => {
  using directory = new TempDir();
  const remote = address();
  await using sender = await Sender.open(directory.queue, remote, {
    session: { open: [{ send: "HELLO\n" }], heartbeat: { send: "PING\n", idleMs: 10 } },
    holdMs: 0,
  });
  await sender.enqueue("one\n");
  using device = await Device.connect(remote);
  await until("all of it", () => /^HELLO\n(PING\n)*one\n(PING\n)+$/.test(device.text));
});

Deno.test("who waits for the right to send does not listen: a server would wait there for nothing", async () => {
  using directory = new TempDir();
  const remote = address();
  const { hostname, port } = new URL(remote);
  const connect = () => Deno.connect({ hostname, port: Number(port) });
  await using queue = await OutboundQueue.open(directory.queue);
  const side = sendingSideOf(queue);
  const { takeTenure } = side;
  const standsBy = Promise.withResolvers<void>();
  const right = Promise.withResolvers<void>();
  side.takeTenure = async (...options) => {
    standsBy.resolve();
    await right.promise;
    return await takeTenure.apply(side, options);
  };
  // What is wrong with the options is said before that.
  await assert.rejects(Sender.open(queue, `${remote}?from=nowhere`), /no address and no network/);
  const opening = Sender.open(queue, remote);
  await standsBy.promise;
  await assert.rejects(connect(), Deno.errors.ConnectionRefused);
  right.resolve();
  await using sender = await opening;
  using device = await Device.connect(remote);
  await sender.enqueue("one\n");
  await until("the packet", () => device.text === "one\n");
  await sender.close({ deliverTimeoutMs: 0 });
});

Deno.test("the right to send is given back where nobody can listen", async () => {
  using directory = new TempDir();
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using queue = await OutboundQueue.open(directory.queue);
  const remote = `listen://127.0.0.1:${taken.addr.port}`;
  await assert.rejects(Sender.open(queue, remote), Deno.errors.AddrInUse);
  await using sender = await Sender.open(queue, address());
  assert.equal(sender.queue, queue);
});
