/** What a client sees of its connection's end: in order only where all it sent is on disk. */
import assert from "node:assert/strict";
import type { RelayConnection, RelayListener, RelayOptions } from "../../src/relay/options.ts";
import { Relay } from "../../src/relay/relay.ts";
import type { QueueOptions } from "../../src/queue/options.ts";
import { Sender } from "../../src/sender/sender.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";

/** A relay on real sockets, before a sender whose server is not there. */
class Bench implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly log: string[] = [];
  readonly #dir = new TempDir();
  readonly #listener: Deno.TcpListener;
  readonly #clients: Deno.TcpConn[] = [];
  sender!: Sender;
  relay!: Relay;

  private constructor(hostname: string) {
    this.#listener = Deno.listen({ hostname, port: 0 });
  }

  static async open(
    options: Partial<RelayOptions> = {},
    queueOptions: QueueOptions = {},
    hostname = "127.0.0.1",
  ): Promise<Bench> {
    const bench = new Bench(hostname);
    bench.sender = await Sender.open({
      queue: bench.#dir.queue,
      queueOptions: { overflow: "wait", ...queueOptions },
      remote: "tcp://127.0.0.1:9",
    });
    const line = (words: string) => void bench.log.push(words);
    bench.relay = new Relay({
      sender: bench.sender,
      listeners: [bench.#listener],
      input: "lines",
      clock: bench.clock,
      logger: { debug() {}, info() {}, warn: line, error: line },
      ...options,
    });
    return bench;
  }

  /** A client that has sent this, and then ended its side. */
  async client(text: string, ends = true): Promise<Deno.TcpConn> {
    const { hostname, port } = this.#listener.addr;
    const conn = await Deno.connect({ hostname, port });
    this.#clients.push(conn);
    await conn.write(bytes(text));
    if (ends) await conn.closeWrite();
    return conn;
  }

  async stored(packets: number): Promise<void> {
    await until(`${packets} packets`, () => this.relay.stats().storedPackets === packets);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.sender.close({ deliverTimeoutMs: 0 });
    for (const conn of this.#clients) conn.close();
    this.#dir[Symbol.dispose]();
  }

  /** Stops it, with no time for what is not stored yet. */
  async stop(): Promise<void> {
    const stopping = this.relay.stop({ storeTimeoutMs: 0 });
    this.clock.advance(0);
    await stopping;
  }
}

/** How a client's connection ended. */
async function endOf(conn: Deno.TcpConn): Promise<string> {
  try {
    const length = await within("its end", conn.read(new Uint8Array(1)));
    return length === null ? "in order" : "bytes";
  } catch (error) {
    assert(error instanceof Deno.errors.ConnectionReset, String(error));
    return "reset";
  }
}

const FULL = { maxPackets: 4 };
const EIGHT = "1\n2\n3\n4\n5\n6\n7\n8\n";

Deno.test("relay: all is stored: its client's connection ends in order, on IPv4 and IPv6", async () => {
  for (const hostname of ["127.0.0.1", "::1"]) {
    await using bench = await Bench.open({}, {}, hostname);
    assert.equal(await endOf(await bench.client(EIGHT)), "in order");
    assert.equal(bench.sender.stats().queue.packets, 8);
    assert.equal(await endOf(await bench.client("")), "in order");
    assert.equal(await endOf(await bench.client("9\n")), "in order");
    assert.deepEqual(bench.log.filter((words) => words.includes("client")), []);
  }
});

Deno.test("relay: stopped before all is stored: its client sees a reset", async () => {
  await using bench = await Bench.open({}, FULL);
  const client = await bench.client(EIGHT);
  await bench.stored(4);
  await bench.stop();
  assert.equal(await endOf(client), "reset");
  assert.equal(bench.relay.stats().unstoredPackets, 4);
});

Deno.test("relay: what overflow refuses: its client sees a reset", async () => {
  await using bench = await Bench.open({}, { ...FULL, overflow: "reject" });
  assert.equal(await endOf(await bench.client(EIGHT)), "reset");
});

Deno.test("relay: input that is malformed: its client sees a reset", async () => {
  await using bench = await Bench.open({ input: "octet-counting" });
  assert.equal(await endOf(await bench.client("3 abcxyz")), "reset");
  assert.equal(bench.relay.stats().storedPackets, 1);
});

Deno.test("relay: a last line without its newline: its client sees a reset", async () => {
  await using bench = await Bench.open();
  assert.equal(await endOf(await bench.client("one\ntw")), "reset");
  const { storedPackets, unfinishedPackets } = bench.relay.stats();
  assert.deepEqual([storedPackets, unfinishedPackets], [1, 1]);
});

Deno.test("relay: stopped while its client may still send: that sees a reset", async () => {
  await using bench = await Bench.open();
  const client = await bench.client("one\n", false);
  await bench.stored(1);
  await bench.stop();
  assert.equal(await endOf(client), "reset");
});

Deno.test("relay: stopped while it stores the last packets of a client that has ended", async () => {
  await using bench = await Bench.open({}, FULL);
  const client = await bench.client(EIGHT);
  await bench.stored(4);
  const stopping = bench.relay.stop({ storeTimeoutMs: Infinity });
  await bench.sender.queue.removePackets({ firstId: 1, lastId: 4 });
  await stopping;
  assert.equal(await endOf(client), "in order");
});

Deno.test("relay: let go for its silence, or waiting when the relay stops: a reset", async () => {
  await using bench = await Bench.open({ maxClients: 1, idleTimeoutMs: 1000 });
  const silent = await bench.client("one\n", false);
  await bench.stored(1);
  const next = await bench.client("two\n", false);
  await until("it is said", () => bench.log.some((words) => /have to wait/.test(words)));
  bench.clock.advance(1000);
  assert.equal(await endOf(silent), "reset");
  await bench.stored(2);
  const waiting = await bench.client("three\n");
  await until("it waits", () => bench.clock.nextInMs === 1000);
  await bench.stop();
  assert.deepEqual([await endOf(next), await endOf(waiting)], ["reset", "reset"]);
  assert.equal(bench.relay.stats().storedPackets, 2);
});

Deno.test("relay: where ends cannot be told apart, that is said once", async () => {
  const end = { transport: "tcp", hostname: "nowhere", port: 1 };
  const connection: RelayConnection = {
    ...{ localAddr: end, remoteAddr: end, close() {} },
    read: () => Promise.resolve(null),
    write: (bytes) => Promise.resolve(bytes.length),
  };
  const closed = Promise.withResolvers<RelayConnection>();
  const arrivals = [connection, connection];
  const listener: RelayListener = {
    accept: () => Promise.resolve(arrivals.shift() ?? closed.promise),
    close: () => closed.reject(new Deno.errors.BadResource("closed")),
  };
  await using bench = await Bench.open({ listeners: [listener] });
  await until("both have left", () => {
    const { clients, clientsAccepted } = bench.relay.stats();
    return clients === 0 && clientsAccepted === 2;
  });
  assert.deepEqual(bench.log, [
    "clients see an orderly end also where something could not be stored: " +
    "Deno reports nowhere, which is no IP address.",
  ]);
});
