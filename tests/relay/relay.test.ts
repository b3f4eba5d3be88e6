import assert from "node:assert/strict";
import type { Framing } from "../../src/framing/framing.ts";
import type {
  RelayConnection,
  RelayListener,
  RelayOptions,
  RelayStats,
} from "../../src/relay/options.ts";
import { Relay } from "../../src/relay/relay.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import { Sender } from "../../src/sender/sender.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { until } from "../support/until.ts";

const utf8 = new TextEncoder();

/** A client, from the relay's side: what it sends is what a test gives it. */
class Client implements RelayConnection {
  readonly remoteAddr: { transport: string } = { transport: "unix" };
  heard = "";
  /** Whether it reads nothing: what is written waits until it is closed. */
  isDeaf = false;
  isClosed = false;
  #chunks: Uint8Array[] = [];
  #ended = false;
  #wake = () => {};
  #hangUp = (_: Error) => {};

  send(text: string): void {
    this.#chunks.push(utf8.encode(text));
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.isClosed) throw new Deno.errors.BadResource("closed");
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        buffer.set(chunk.subarray(0, buffer.length));
        if (chunk.length > buffer.length) this.#chunks.unshift(chunk.subarray(buffer.length));
        return Math.min(chunk.length, buffer.length);
      }
      if (this.#ended) return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  write(bytes: Uint8Array): Promise<number> {
    if (this.isClosed) return Promise.reject(new Deno.errors.BadResource("closed"));
    if (this.isDeaf) return new Promise((_, reject) => this.#hangUp = reject);
    this.heard += new TextDecoder().decode(bytes);
    return Promise.resolve(bytes.length);
  }

  close(): void {
    this.isClosed = true;
    this.#hangUp(new Deno.errors.BadResource("closed"));
    this.#wake();
  }
}

/** Where clients come, or errors in their place. */
class Listener implements RelayListener {
  readonly #arrivals: (Client | Error)[] = [];
  #wake = () => {};
  #closed = false;

  arrive(...arrivals: (Client | Error)[]): void {
    this.#arrivals.push(...arrivals);
    this.#wake();
  }

  async accept(): Promise<RelayConnection> {
    for (;;) {
      if (this.#closed) throw new Deno.errors.BadResource("closed");
      const arrival = this.#arrivals.shift();
      if (arrival instanceof Error) throw arrival;
      if (arrival !== undefined) return arrival;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }
}

/** A relay before a sender, and time that passes when it is told to. */
class Bench implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync();
  readonly server = new ScriptedServer().start();
  readonly clock = new ManualClock();
  readonly listener = new Listener();
  readonly log: string[] = [];
  sender!: Sender;
  relay!: Relay;

  static async open(
    options: Partial<RelayOptions> = {},
    senderOptions: Partial<SenderOptions> = {},
  ): Promise<Bench> {
    const bench = new Bench();
    bench.sender = await Sender.open({
      queue: `${bench.directory}/outbox.db`,
      // In the loop: tests move the relay's clock a step a turn, and a thread takes many of those.
      queueOptions: { overflow: "wait", syncIn: "loop" },
      remote: bench.server.remote,
      ...senderOptions,
    });
    bench.relay = bench.another(options);
    return bench;
  }

  another(options: Partial<RelayOptions> = {}): Relay {
    const line = (level: string) => (words: string) => void this.log.push(`${level}: ${words}`);
    return new Relay({
      sender: this.sender,
      listeners: [this.listener],
      input: "lines",
      clock: this.clock,
      logger: { debug() {}, info: line("info"), warn: line("warn"), error: line("error") },
      ...options,
    });
  }

  /** A client that has arrived and sent something. */
  client(text = ""): Client {
    const client = new Client();
    if (text !== "") client.send(text);
    this.listener.arrive(client);
    return client;
  }

  async stats(what: string, fits: (stats: RelayStats) => boolean): Promise<void> {
    await until(`${what}: ${JSON.stringify(this.relay.stats())}`, () => fits(this.relay.stats()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.relay.stop({ storeTimeoutMs: 0 });
    // The manual clock gives up for it.
    this.clock.advance(0);
    await this.sender.close({ deliverTimeoutMs: 0 });
    await this.server[Symbol.asyncDispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("relay: stopping with a full queue ends when the time is over, and counts", async () => {
  await using bench = await Bench.open({}, {
    queueOptions: { overflow: "wait", maxPackets: 2 },
  });
  bench.server.stop();
  const client = bench.client("a\nb\n");
  await bench.stats("two packets", ({ storedPackets }) => storedPackets === 2);
  client.send("c\nd\n");
  await bench.stats("two that wait", ({ unstoredPackets }) => unstoredPackets === 2);
  const first = bench.relay.stop({ storeTimeoutMs: Infinity });
  const second = bench.relay.stop({ storeTimeoutMs: 3000 });
  bench.clock.advance(2999);
  assert.equal(client.isClosed, false);
  bench.clock.advance(1);
  await Promise.all([first, second]);
  assert.equal(client.isClosed, true);
  assert.equal(bench.relay.stats().unstoredPackets, 2);
  assert.match(bench.log.at(-1) ?? "", /^error: client 1 is cut off with 2 packets that could not/);
});

Deno.test("relay: it stops, and lets its clients go, where a listener was closed before", async () => {
  await using bench = await Bench.open();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using relay = bench.another({ listeners: [listener, bench.listener] });
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  await conn.write(utf8.encode("one\n"));
  await until("it is stored", () => relay.stats().storedPackets === 1);
  listener.close();
  await relay.stop();
  assert.equal(relay.stats().clients, 0);
  await assert.rejects(conn.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  conn.close();
});

Deno.test("relay: a client whose keepalive cannot be set is let go, and nothing else happens", async () => {
  await using bench = await Bench.open();
  const broken = Object.assign(new Client(), {
    setKeepAlive() {
      throw new Error("no keepalive");
    },
  });
  bench.listener.arrive(broken);
  await bench.stats("it is gone", (stats) => stats.clientsAccepted === 1 && stats.clients === 0);
  assert.equal(broken.isClosed, true);
  assert.match(bench.log.join("\n"), /client 1 broke off, 0 packets stored: no keepalive/);
  bench.client("a\n");
  await bench.stats("the next one", ({ storedPackets }) => storedPackets === 1);
});

Deno.test("relay: a client whose connection was closed by its owner is let go, and nothing else happens", async () => {
  await using bench = await Bench.open();
  const [gone, other] = [bench.client("a\n"), bench.client("b\n")];
  await bench.stats("both are stored", ({ storedPackets }) => storedPackets === 2);
  gone.close();
  // As Deno does it.
  gone.close = () => {
    throw new Deno.errors.BadResource("Bad resource ID");
  };
  await bench.stats("it is gone", ({ clients }) => clients === 1);
  assert.match(bench.log.join("\n"), /client \d broke off, 1 packet stored/);
  other.send("c\n");
  await bench.stats("the other goes on", ({ storedPackets }) => storedPackets === 3);
  // One that is closed in the moment of the stop.
  const late = bench.client("d\n");
  await bench.stats("it is stored", ({ storedPackets }) => storedPackets === 4);
  late.close = gone.close;
  const stopped = bench.relay.stop();
  await until("the others are let go", () => other.isClosed);
  late.isClosed = true;
  late.send("");
  await stopped;
  assert.equal(bench.relay.stats().clients, 0);
});

Deno.test("relay: one sender has one relay with replies; the next comes when it has stopped", async () => {
  await using bench = await Bench.open({ replies: "all" });
  assert.throws(() => bench.another({ replies: "all" }), {
    name: "TypeError",
    message: /one relay with replies a sender/,
  });
  bench.another({ listeners: [] }); // Without replies it leaves them alone.
  await bench.relay.stop();
  const listener = new Listener();
  bench.relay = bench.another({ replies: "all", listeners: [listener] });
  const client = new Client();
  client.send("question\n");
  listener.arrive(client);
  const connection = await bench.server.accept();
  await connection.readUntil("question\n");
  await connection.write("answer\n");
  await until("the answer", () => client.heard === "answer\n");
});

Deno.test("relay: a client that resets before it is accepted costs nobody time", async () => {
  await using bench = await Bench.open();
  const gone = Array.from({ length: 100 }, () => new Deno.errors.NotConnected("os error 107"));
  bench.listener.arrive(...gone);
  bench.client("good\n");
  await bench.stats("the good one's packet", ({ storedPackets }) => storedPackets === 1);
  assert.equal(bench.clock.nowMs(), 0);
  assert.deepEqual(bench.log, []);

  const full = new Error("Too many open files (os error 24)");
  bench.listener.arrive(full, full);
  bench.client("later\n");
  await until("the trouble", () => bench.log.length === 1);
  assert.match(bench.log[0] ?? "", /^error: cannot accept clients: Too many open files/);
  for (let i = 0; bench.relay.stats().storedPackets < 2; i++) {
    assert(i < 1000, "it is never tried again");
    await new Promise((resolve) => setImmediate(resolve));
    bench.clock.advance(250);
  }
  assert.equal(bench.log.length, 1);
});

Deno.test("relay: a silent client makes room for one that waits, one that sends does not", async () => {
  await using bench = await Bench.open({ maxClients: 2, idleTimeoutMs: 60_000 });
  const silent = bench.client("one\n");
  const busy = bench.client("two\n");
  await bench.stats("both", ({ storedPackets }) => storedPackets === 2);
  bench.clock.advance(3_600_000);
  assert.equal(silent.isClosed, false, "nobody waits");
  busy.send("three\n");
  await bench.stats("the busy one", ({ storedPackets }) => storedPackets === 3);
  bench.client("four\n");
  await bench.stats("the newcomer", ({ storedPackets }) => storedPackets === 4);
  assert.deepEqual([silent.isClosed, busy.isClosed], [true, false]);
  assert.match(
    bench.log.join("\n"),
    /warn: client 1 has sent nothing for 3600 s, and another waits/,
  );

  bench.client("five\n");
  await until("it is said", () => /2 clients are connected/.test(bench.log.at(-1) ?? ""));
  bench.clock.advance(59_999);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(bench.relay.stats().storedPackets, 4);
  bench.clock.advance(1);
  await bench.stats("the next", ({ storedPackets }) => storedPackets === 5);
  assert.equal(bench.relay.stats().idleClients, 2);
});

Deno.test("relay: who waits while the queue holds all others up is let in once one is silent", async () => {
  await using bench = await Bench.open({ maxClients: 1, idleTimeoutMs: 60_000 }, {
    queueOptions: { overflow: "wait", maxPackets: 1 },
    holdMs: 0,
  });
  bench.server.stop();
  const held = bench.client("one\n");
  await bench.stats("one", ({ storedPackets }) => storedPackets === 1);
  held.send("two\n");
  await bench.stats("one that waits", ({ unstoredPackets }) => unstoredPackets === 1);
  bench.client("three\n");
  await until("it is said", () => bench.log.some((words) => /1 clients are/.test(words)));
  bench.clock.advance(90_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(held.isClosed, false, "it waits for the relay");

  bench.server.start();
  bench.server.readAll();
  await bench.stats("room", ({ storedPackets }) => storedPackets === 2);
  bench.clock.advance(59_999);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(held.isClosed, false, "it has been silent for less");
  bench.clock.advance(60_000);
  await bench.stats("the one that waits", ({ storedPackets }) => storedPackets === 3);
  assert.equal(held.isClosed, true);
});

Deno.test("relay: chunks of several clients are never mixed", async () => {
  await using bench = await Bench.open({ input: "chunks" });
  const texts = bench.server.readAll();
  const first = bench.client("first, ");
  await bench.stats("the first", ({ storedPackets }) => storedPackets === 1);
  bench.client("second");
  await until("it is said", () => /one client at a time/.test(bench.log.at(-1) ?? ""));
  first.send("whole. ");
  await bench.stats("the first again", ({ storedPackets }) => storedPackets === 2);
  first.end();
  await until("both", () => texts.join("") === "first, whole. second");
});

Deno.test("relay: a place is one client's, at however many listeners others wait for it", async () => {
  const other = new Listener();
  await using bench = await Bench.open({ listeners: [] });
  const relay = bench.another({ input: "chunks", listeners: [bench.listener, other] });
  const first = bench.client("first");
  await until("the first", () => relay.stats().storedPackets === 1);
  const waiting = [bench.client("a"), new Client()];
  waiting[1]?.send("b");
  other.arrive(...waiting.slice(1));
  await until("it is said", () => /one client at a time/.test(bench.log.at(-1) ?? ""));
  await new Promise((resolve) => setImmediate(resolve));
  first.end();
  await until("the next", () => relay.stats().storedPackets >= 2);
  assert.deepEqual([relay.stats().clients, relay.stats().storedPackets], [1, 2]);
  for (const client of waiting) client.end();
  await until("both", () => relay.stats().storedPackets === 3);
  await relay.stop();
});

Deno.test("relay: packets of two clients that write at once are never mixed", async (t) => {
  const cases: [Framing, Framing, (text: string) => string, RegExp][] = [
    ["syslog", "lines", (text) => `${text.length} ${text}`, /[^\n]+(?=\n)/g],
    ["gelf", "gelf", (text) => `${text}\0`, /[^\0]+(?=\0)/g],
    ["frame:28/29", "frame:28/29", (text) => `(${text})`, /(?<=\()[^)]+(?=\))/g],
    ["length32", "lines", (text) => `\0\0\0${String.fromCharCode(text.length)}${text}`, /.+/g],
  ];
  for (const [input, output, frame, packet] of cases) {
    await t.step(String(input), async () => {
      await using bench = await Bench.open({ input, output });
      const texts = bench.server.readAll();
      const clients = ["a", "b"].map((name) => ({ name, client: bench.client() }));
      const all = clients.map(({ name }) => {
        const whole = Array.from({ length: 20 }, (_, i) => `<1>${name}${i} ${name.repeat(20 + i)}`);
        return { whole, wire: whole.map(frame).join("") };
      });
      // A few bytes of each in turn: no read of the relay ends with a packet.
      for (let at = 0; all.some(({ wire }) => at < wire.length); at += 7) {
        for (const [i, { client }] of clients.entries()) {
          client.send(all[i]?.wire.slice(at, at + 7) ?? "");
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      await bench.stats("all", ({ storedPackets }) => storedPackets === 40);
      const found = () => [...texts.join("").matchAll(packet)].map(([text]) => text);
      await until("all have come", () => found().length === 40);
      assert.deepEqual(found().toSorted(), all.flatMap(({ whole }) => whole).toSorted());
    });
  }
});

Deno.test("relay: a packet that is larger than all of the queue may be costs itself alone", async () => {
  await using bench = await Bench.open({ oversize: "skip" }, { queueOptions: { maxBytes: 12 } });
  const client = bench.client("one\nmuch too long\ntwo\n");
  await bench.stats("the others", ({ storedPackets }) => storedPackets === 2);
  assert.equal(bench.relay.stats().oversizePackets, 1);
  assert.ok(!client.isClosed);
});

Deno.test("relay: what many clients have begun is bounded in sum", async () => {
  await using bench = await Bench.open({ maxPacketBytes: 1000, maxUnfinishedBytes: 2000 });
  const clients = ["a", "b", "c"].map((name) => bench.client(`${name}\n`));
  await bench.stats("all", ({ storedPackets }) => storedPackets === 3);
  clients[0]?.send("x".repeat(700));
  clients[1]?.send("x".repeat(900));
  clients[2]?.send("x".repeat(600));
  await bench.stats("one less", (stats) => stats.clients === 2);
  assert.deepEqual(clients.map(({ isClosed }) => isClosed), [false, true, false]);
  assert.match(
    bench.log.at(-1) ?? "",
    /client 2 is cut off inside a packet of 900 bytes so far: all/,
  );
  clients[0]?.send("\n");
  await bench.stats("the first", ({ storedPackets }) => storedPackets === 4);
  await assert.rejects(Bench.open({ maxPacketBytes: 10, maxUnfinishedBytes: 9 }), RangeError);
});

Deno.test("relay: a client that has closed its side gets its reply, and is let go after a while", async () => {
  await using bench = await Bench.open({ replies: "last-client", replyTimeoutMs: 5000 });
  const client = bench.client("question\n");
  client.end();
  const connection = await bench.server.accept();
  await connection.readUntil("question\n");
  await connection.write("ans");
  await until("the first part", () => client.heard === "ans");
  bench.clock.advance(4999);
  await connection.write("wer\n");
  await until("the answer", () => client.heard === "answer\n");
  bench.clock.advance(4999);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(client.isClosed, false);
  bench.clock.advance(1);
  await bench.stats("it has left", (stats) => stats.clients === 0);
  assert.equal(client.isClosed, true);

  await connection.write("too late\n");
  await bench.stats("it is counted", ({ droppedReplies }) => droppedReplies === 1);
  assert.match(bench.log.at(-1) ?? "", /no client is there to be told/);
});

Deno.test("relay: a client that has closed its side and reads no reply is let go, though more come", async () => {
  await using bench = await Bench.open({ replies: "all", replyTimeoutMs: 5000 });
  const client = bench.client("question\n");
  client.isDeaf = true;
  client.end();
  const connection = await bench.server.accept();
  await connection.readUntil("question\n");
  await bench.stats("it is stored", ({ storedPackets }) => storedPackets === 1);
  const witness = bench.client();
  for (const words of ["answer\n", "another\n"]) {
    await connection.write(words);
    await until("the answer", () => witness.heard.endsWith(words));
    bench.clock.advance(2500);
  }
  await until("its end", () => {
    bench.clock.advance(100);
    return client.isClosed;
  });
  assert.match(
    bench.log.at(-1) ?? "",
    /^warn: client 1 does not read its replies, 1 packet stored$/,
  );
  assert.equal(witness.isClosed, false);
});

Deno.test("relay: who only waits for replies is no hindrance to others", async () => {
  await using bench = await Bench.open({ replies: "all", maxClients: 1 });
  const first = bench.client("one\n");
  first.end();
  await bench.stats("the first", ({ storedPackets }) => storedPackets === 1);
  bench.client("two\n");
  await bench.stats("the second", ({ storedPackets }) => storedPackets === 2);
  assert.equal(first.isClosed, true);
  assert.equal(bench.relay.stats().idleClients, 0);
});

Deno.test("relay: a client in another framing is named while it is connected", async () => {
  await using bench = await Bench.open();
  bench.client("133 <34>1 ");
  await until("the doubt", () => bench.log.length === 1);
  assert.match(
    bench.log[0] ?? "",
    /^warn: client 1: it begins with "133 <34>1", .*: is it input "syslog"\?$/,
  );
  bench.client("x".repeat(100_000));
  await until("the next", () => bench.log.length === 2);
  assert.match(bench.log[1] ?? "", /^warn: client 2: \d+ KiB and no newline: does its sender/);
});

Deno.test("relay: a logger that throws cuts nobody off", async () => {
  const boom = () => {
    throw new Error("disk of the log is full");
  };
  await using bench = await Bench.open({
    logger: { debug: boom, info: boom, warn: boom, error: boom },
  });
  bench.client("one\n").end();
  bench.client("two\n");
  await bench.stats("both", ({ storedPackets }) => storedPackets === 2);
});

Deno.test("Relay stores no more at a time than its sender's queue has room for", async () => {
  const directory = Deno.makeTempDirSync();
  const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const served = server.accept().then((connection) => new Response(connection.readable).text());
  const sender = await Sender.open({
    queue: `${directory}/outbox.db`,
    queueOptions: { maxPackets: 8, overflow: "wait" },
    remote: `tcp://127.0.0.1:${server.addr.port}`,
    holdMs: 0,
  });
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const relay = new Relay({ sender, listeners: [listener], input: "lines" });

  // One read of the relay brings many times what the queue may hold.
  const client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  const text = "line\n".repeat(100);
  await client.write(new TextEncoder().encode(text));
  await client.closeWrite();
  assert.equal(await client.read(new Uint8Array(1)), null);
  client.close();

  const { storedPackets, unstoredPackets } = relay.stats();
  assert.deepEqual([storedPackets, unstoredPackets], [100, 0]);
  await relay.stop();
  await sender.close({ deliverTimeoutMs: Infinity });
  assert.equal(await served, text);
  server.close();
  Deno.removeSync(directory, { recursive: true });
});

Deno.test("relay: clients that send junk do not fill the log", async () => {
  await using bench = await Bench.open();
  const junk = async (clients: number) => {
    const before = bench.relay.stats().unfinishedPackets;
    for (let i = 0; i < clients; i++) bench.client("junk").end();
    await bench.stats("they are gone", (stats) => stats.unfinishedPackets === before + clients);
  };
  await junk(30);
  assert.equal(bench.log.length, 10);
  // What was lost of a client that did store something is told.
  bench.client("stored\nlost").end();
  await bench.stats("its packet", ({ storedPackets }) => storedPackets === 1);
  await bench.stats("it is gone", ({ clients }) => clients === 0);
  assert.match(bench.log[10] ?? "", /client 31 ended inside a packet: .* before it: 1 packet/);
  bench.clock.advance(60_000);
  assert.equal(bench.log[11], "warn: 20 more warnings like the last ones about clients");
  await junk(11);
  assert.equal(bench.log.length, 22);
  await bench.relay.stop();
  assert.equal(bench.log[22], "warn: 1 more warning like the last ones about clients");
});
