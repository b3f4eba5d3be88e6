import assert from "node:assert/strict";
import {
  ClosedError,
  QueueFullError,
  QueueLockedError,
  SocketOptionError,
} from "../../src/base/errors.ts";
import type { Dialer } from "../../src/base/ports.ts";
import { framePacket } from "../../src/framing/frame_packet.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import type { SqliteDriver } from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import type { SenderStatus } from "../../src/delivery/status.ts";
import { Sender } from "../../src/sender/sender.ts";
import { spoolQueue } from "../../src/spool/spool.ts";
import { failsToClose } from "../queue/helpers.ts";
import { bytes } from "../support/bytes.ts";
import { lines, packet, packets } from "../support/packets.ts";
import { seen, SenderBench } from "../support/sender_bench.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";

/** Waits until every packet has drained. */
function drained(sender: Sender): Promise<void> {
  return within("every packet has drained", sender.drained());
}

/** A hold would cost each test a second at its end; tests/sender/hold.test.ts is about it. */
const NO_HOLD = { holdMs: 0 };

Deno.test("packets arrive in order and leave the disk", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const texts = bench.server.readAll();
  const sender = await bench.open();
  for (const bytes of packets(20)) await sender.enqueue(bytes);
  const { firstId, lastId } = await sender.enqueueMany(packets(30));
  assert.deepEqual([firstId, lastId], [21, 50]);
  await drained(sender);
  await sender.close();
  assert.equal(texts[0], lines(20) + lines(30));
  assert.equal(sender.stats().redeliveredPackets, 0);
  assert.equal(sender.stats().confirmedPackets, 50);
  await using queue = await OutboundQueue.open(bench.dir.queue);
  assert.equal(queue.stats().packets, 0);
});

Deno.test("whoever has given up before a sender is opened gets none, and keeps nobody out", async () => {
  await using bench = new SenderBench(NO_HOLD);
  await assert.rejects(bench.open({ signal: AbortSignal.abort() }), { name: "AbortError" });
  const sender = await bench.open();
  await sender.close();
});

Deno.test("senders that are opened in a row connect meanwhile", async () => {
  await using bench = new SenderBench({ connect: "always" });
  // As long as a busy disk may take.
  const slowly: SqliteDriver = {
    ...nodeSqlite,
    open(path, options) {
      const untilMs = performance.now() + 60;
      while (performance.now() < untilMs);
      return nodeSqlite.open(path, options);
    },
  };
  const options = {
    queueOptions: { driver: slowly },
    // On a busy machine an attempt must not end before its turn comes.
    ...{ connectTimeoutMs: 60_000, slowConnectTimeoutMs: 60_000 },
  };
  const first = await bench.open(options);
  for (let i = 0; i < 15; i++) await bench.open({ queue: bench.dir.file(`${i}.db`), ...options });
  assert.equal(first.state, "connected");
});

Deno.test("the caller may reuse its buffer at once", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const texts = bench.server.readAll();
  const sender = await bench.open();
  const buffer = bytes("first\n");
  const stored = sender.enqueue(buffer);
  buffer.fill(120);
  await stored;
  await sender.close();
  assert.equal(texts[0], "first\n");
});

Deno.test("of packets larger than the window, two are under way", async () => {
  await using bench = new SenderBench(NO_HOLD);
  // Storing holds the loop for longer than an attempt has, where the disk is busy.
  const sender = await bench.open({
    ...{ maxInFlightBytes: 1000, connectTimeoutMs: 60_000, slowConnectTimeoutMs: 60_000 },
  });
  // More than two kernels' buffers hold, so that none drains before the server reads.
  const large = bytes("x".repeat(15_000_000) + "\n");
  for (let i = 0; i < 3; i++) await sender.enqueue(large);
  const connection = await bench.server.accept();
  await until("two are assigned", () => sender.stats().inFlightPackets === 2);
  assert(sender.stats().inFlightBytes > large.length);
  await connection.skip(large.length);
  await until("the third follows the first", () => sender.stats().drainedPackets === 1);
  await until("two are under way again", () => sender.stats().inFlightPackets === 2);
  assert.equal(sender.stats().redeliveredPackets, 0);
});

Deno.test("a packet larger than the window arrives as it is", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const texts = bench.server.readAll();
  const sender = await bench.open({ maxInFlightBytes: 1000 });
  const large = "x".repeat(3_000_000) + "\n";
  await sender.enqueueMany([packet(1), bytes(large), packet(2)]);
  await drained(sender);
  await sender.close();
  assert.equal(texts[0], lines(1) + large + lines(1, 2));
});

Deno.test("a reset with unread bytes: what was held is sent again", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open({ holdMs: 60_000 });
  await sender.enqueueMany(packets(10));
  const first = await bench.server.accept();
  await drained(sender); // the server's kernel has it all, its program has read nothing
  assert.equal(sender.stats().heldPackets, 10);
  first.close();
  const status = await seen(sender, ({ verdict }) => verdict.kind === "reset");
  assert.match(status.words, /10 packets will be sent again/);
  const second = await bench.server.accept();
  assert.equal(await second.readUntil("packet 10\n"), lines(10));
  assert.equal(sender.stats().redeliveredPackets, 10);
  assert.equal(sender.stats().confirmedPackets, 0);
  assert.equal(sender.stats().queue.packets, 10);
});

Deno.test("holdMs 0: drained is confirmed, and a later reset sends nothing again", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open({ holdMs: 0 });
  await sender.enqueueMany(packets(10));
  const first = await bench.server.accept();
  await drained(sender);
  await until("every packet is confirmed", () => sender.stats().queue.packets === 0);
  first.close();
  await seen(sender, ({ state }) => state === "idle");
  await sender.enqueue(packet(11));
  const second = await bench.server.accept();
  assert.equal(await second.readUntil("packet 11\n"), lines(1, 11));
});

Deno.test("a server that half-closes: reconnect, or keep sending", async () => {
  for (const onPeerFin of ["keep-sending", "reconnect"] as const) {
    await using bench = new SenderBench(NO_HOLD);
    const sender = await bench.open({ onPeerFin, holdMs: 0 });
    await sender.enqueue(packet(1));
    const first = await bench.server.accept();
    await first.readUntil("packet 1\n");
    await until("the packet is confirmed", () => sender.stats().queue.packets === 0);
    await first.halfClose();
    await seen(sender, ({ verdict, state }) => verdict.kind === "peer-closed" || state === "idle");
    await sender.enqueue(packet(2));
    const next = onPeerFin === "keep-sending" ? first : await bench.server.accept();
    assert.equal(await next.readUntil("\n"), lines(1, 2));
    assert.equal(sender.stats().connections, onPeerFin === "keep-sending" ? 1 : 2);
  }
});

Deno.test("a server that does not read is stalled, not dead, and gets the rest later", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open({
    stallTimeoutMs: 300,
    maxInFlightBytes: 64 * 1024 * 1024,
    socket: { sendBufferBytes: 64 * 1024 },
  });
  // From here on: on a busy machine it may have been told before everything is stored.
  const stalled = seen(sender, ({ verdict }) => verdict.kind === "peer-stalled");
  const warned = seen(
    sender,
    ({ level, verdict }) => level === "warn" && verdict.kind === "peer-stalled",
  );
  const megabyte = bytes("x".repeat(1024 * 1024 - 1) + "\n");
  for (let count = 0; count < 16; count++) await sender.enqueue(megabyte);
  const connection = await bench.server.accept();
  await stalled;
  // A window that is closed for a moment is no news.
  const { verdict, words } = await warned;
  assert(verdict.kind === "peer-stalled" && verdict.stalledMs >= 1000, words);
  // Longer than any limit for a dead path: probes are answered all the while.
  await until("it has been stalled for long", () => {
    const { verdict } = sender;
    return verdict.kind === "peer-stalled" && verdict.stalledMs > 1500;
  });
  let receivedBytes = 0;
  connection.readToEnd((part) => receivedBytes += part.length);
  await within("the close", sender.close({ deliverTimeoutMs: Infinity }));
  assert.equal(receivedBytes, 16 * 1024 * 1024);
  assert.equal(sender.stats().connections, 1);
});

Deno.test("a server that reads slowly is served on one connection", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open({ stallTimeoutMs: 300 });
  await sender.enqueueMany(packets(5000));
  const connection = await bench.server.accept();
  let all = "";
  while (!all.endsWith("packet 5000\n")) {
    all += await within("more is read", connection.read(2000));
    await new Promise((resolve) => setTimeout(resolve, 5)); // this is how slow it is
  }
  assert.equal(all, lines(5000));
  assert.equal(sender.stats().connections, 1);
});

Deno.test("a peer stalled beyond its limit is given up", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open({
    peerStallTimeoutMs: 300,
    maxInFlightBytes: 64 * 1024 * 1024,
    socket: { sendBufferBytes: 64 * 1024 },
  });
  await sender.enqueueMany(Array.from({ length: 16 }, () => new Uint8Array(1024 * 1024)));
  await bench.server.accept();
  const second = bench.server.accept();
  await seen(sender, ({ words }) => /given up: peer stalled/.test(words));
  let receivedBytes = 0;
  (await second).readToEnd((part) => receivedBytes += part.length);
  await within("the close", sender.close({ deliverTimeoutMs: Infinity }));
  assert.equal(receivedBytes, 16 * 1024 * 1024);
});

Deno.test("a server that comes late gets everything", async () => {
  await using bench = new SenderBench(NO_HOLD);
  bench.server.stop();
  const sender = await bench.open({ backoffCapMs: 20 });
  await sender.enqueueMany(packets(100));
  await seen(
    sender,
    ({ words }) => /^cannot connect to tcp:\/\/127\.0\.0\.1:\d+: .*refused/i.test(words),
  );
  await until("five attempts have failed", () => sender.stats().failedAttempts >= 5);
  const texts = bench.server.start().readAll();
  await drained(sender);
  await sender.close();
  assert.equal(texts[0], lines(100));
});

Deno.test("what is not delivered at close stays for the next sender", async () => {
  await using bench = new SenderBench(NO_HOLD);
  bench.server.stop();
  const first = await bench.open();
  await first.enqueueMany(packets(100));
  await first.close({ deliverTimeoutMs: 50 });
  assert.equal(first.stats().queue.packets, 100);
  const texts = bench.server.start().readAll();
  const second = await bench.open();
  await drained(second);
  await second.close();
  assert.equal(texts[0], lines(100));
  assert.equal(second.stats().redeliveredPackets, 0);
});

Deno.test("what was in flight at a close counts as redelivered by the next sender", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const first = await bench.open({ holdMs: 60_000 });
  await first.enqueueMany(packets(10));
  const connection = await bench.server.accept();
  await drained(first);
  await first.close({ deliverTimeoutMs: 0 }); // the server has read nothing and does not close
  assert.equal(first.stats().queue.packets, 10);
  connection.close();
  const second = await bench.open();
  const again = await bench.server.accept();
  assert.equal(await again.readUntil("packet 10\n"), lines(10));
  assert.equal(second.stats().redeliveredPackets, 10);
});

Deno.test("close waits until what was delivered is confirmed", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const texts = bench.server.readAll();
  const sender = await bench.open({ holdMs: 200 });
  await sender.enqueueMany(packets(10));
  await sender.close({ deliverTimeoutMs: 60_000 });
  assert.equal(texts[0], lines(10));
  assert.equal(sender.stats().queue.packets, 0);
});

Deno.test("what the server sends is received, or discarded, and never stalls delivery", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open({ connect: "always", receivedBufferBytes: 1000 });
  const connection = await bench.server.accept();
  await connection.write("hello");
  const reader = sender.received.getReader();
  const { value } = await within("something is received", reader.read());
  assert.equal(new TextDecoder().decode(value), "hello");
  await connection.write(new Uint8Array(8 * 1024 * 1024)); // nobody reads: it would fill any window
  await until("everything is received", () => sender.stats().receivedBytes === 5 + 8 * 1024 * 1024);
  assert.ok(sender.stats().receivedBytesDiscarded >= 8 * 1024 * 1024 - 1000);
  await sender.enqueue(packet(1));
  assert.equal(await connection.readUntil("\n"), lines(1));
});

Deno.test("connect always: a connection without a packet, and again after a close", async () => {
  await using bench = new SenderBench(NO_HOLD);
  await bench.open({ connect: "always" });
  (await bench.server.accept()).close();
  await bench.server.accept();
});

Deno.test("connect on demand: no packet, no connection", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open();
  await drained(sender);
  assert.equal(sender.stats().connections, 0);
  await sender.enqueue(packet(1));
  await bench.server.accept();
});

Deno.test("packets that somebody else stores in the file are delivered", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const texts = bench.server.readAll();
  const sender = await bench.open();
  const other = await OutboundQueue.open(bench.dir.queue);
  await other.enqueueMany(packets(5));
  await until("the other's packets have drained", () => sender.stats().drainedPackets === 5);
  await sender.enqueue(packet(6));
  await other.enqueue(packet(7));
  await until("all have drained", () => sender.stats().drainedPackets === 7);
  await other.close();
  await sender.close();
  assert.equal(texts[0], lines(7));
});

Deno.test("one queue has one sender", async () => {
  await using bench = new SenderBench(NO_HOLD);
  await bench.open();
  await assert.rejects(bench.open(), (error) => {
    assert.ok(error instanceof QueueLockedError);
    assert.equal(error.holderPid, Deno.pid);
    assert.match(error.message, /already has a sender in this process\. One queue has one sender;/);
    return true;
  });
});

Deno.test("an option that the kernel refuses ends the sender, not the packets", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open({ socket: { congestion: "nonesuch" } });
  await sender.enqueue(packet(1));
  await within("the sender ends", assert.rejects(sender.closed, SocketOptionError));
  await assert.rejects(sender.drained(), SocketOptionError);
  await using queue = await OutboundQueue.open(bench.dir.queue);
  assert.equal(queue.stats().packets, 1);
});

Deno.test("close is idempotent, disposal after it and during it does nothing more", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const texts = bench.server.readAll();
  const sender = await bench.open();
  await sender.enqueueMany(packets(10));
  const closing = sender.close();
  await Promise.all([closing, sender.close(), sender[Symbol.asyncDispose]()]);
  await sender[Symbol.asyncDispose]();
  await sender.closed;
  assert.equal(texts[0], lines(10));
  await assert.rejects(sender.enqueue(packet(11)), ClosedError);
});

Deno.test("a closed sender takes no packets for a queue that stays open", async () => {
  await using bench = new SenderBench(NO_HOLD);
  await using queue = await OutboundQueue.open(bench.dir.queue);
  const sender = await bench.open({ queue });
  await sender.close();
  const closed = { name: "ClosedError", message: "The sender is closed." };
  await assert.rejects(sender.enqueue(packet(1)), closed);
  await assert.rejects(sender.enqueueMany(packets(2)), closed);
  const writer = sender.writable.getWriter();
  writer.closed.catch(() => {});
  await writer.write(packet(1)).catch(() => {});
  await assert.rejects(writer.close());
  assert.equal(queue.lastId, 0);
  assert.equal(await queue.enqueue(packet(1)), 1);
});

Deno.test("closing shortens a close that is under way", async () => {
  await using bench = new SenderBench(NO_HOLD);
  bench.server.stop();
  const sender = await bench.open();
  await sender.enqueue(packet(1));
  const closing = sender.close({ deliverTimeoutMs: Infinity });
  await seen(sender, ({ state }) => state === "backing-off");
  await sender.close({ deliverTimeoutMs: 0 });
  await within("the first close", closing);
  assert.equal(sender.stats().queue.packets, 1);
});

Deno.test("drained() ends by its signal, and rejects when the sender closes before", async () => {
  await using bench = new SenderBench(NO_HOLD);
  bench.server.stop();
  const sender = await bench.open();
  await sender.enqueue(packet(1));
  const controller = new AbortController();
  const aborted = assert.rejects(sender.drained(controller.signal), /enough/);
  controller.abort(new Error("enough"));
  await aborted;
  const closed = assert.rejects(sender.drained(), ClosedError);
  await sender.close({ deliverTimeoutMs: 0 });
  await closed;
});

Deno.test("drained(): ten thousand waits that were given up leave nothing behind", async () => {
  await using bench = new SenderBench(NO_HOLD);
  bench.server.stop();
  const sender = await bench.open();
  await sender.enqueue(packet(1));
  await until("the port is closed", () => sender.stats().failedAttempts > 0);
  const lasting = sender.drained();
  for (let i = 0; i < 10_000; i++) {
    const controller = new AbortController();
    const given = assert.rejects(sender.drained(controller.signal), /enough/);
    controller.abort(new Error("enough"));
    await given;
  }
  bench.server.start();
  bench.server.readAll();
  await within("drained", lasting);
});

Deno.test("a logger that throws, or rejects, ends nothing", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const texts = bench.server.readAll();
  let calls = 0;
  const boom = () => {
    calls++;
    throw new Error("disk of the log is full");
  };
  const later = () => Promise.reject(new Error("collector is gone"));
  const sender = await bench.open({
    logger: { debug: boom, info: later, warn: later, error: boom },
  });
  await sender.enqueue(packet(1));
  await sender.drained();
  await sender.close();
  assert.equal(texts[0], lines(1));
  assert(calls > 0);
});

Deno.test("status: the present first, then every change, and an end", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await bench.open();
  const states: string[] = [];
  const listening = (async () => {
    for await (const { state } of sender.status()) {
      if (states.at(-1) !== state) states.push(state);
    }
  })();
  await sender.enqueue(packet(1));
  (await bench.server.accept()).readToEnd();
  await sender.close();
  await within("the status ends", listening);
  assert.deepEqual(states, ["idle", "connecting", "connected", "ending", "closed"]);
});

Deno.test("a listener that never reads holds nobody up", async () => {
  await using bench = new SenderBench(NO_HOLD);
  bench.server.stop();
  const sender = await bench.open({ backoffFirstMs: 0, backoffCapMs: 0 });
  const lazy = sender.status();
  await sender.enqueue(packet(1));
  await until(
    "more attempts have failed than a listener keeps",
    () => sender.stats().failedAttempts > 300,
  );
  await sender.close({ deliverTimeoutMs: 0 });
  const waiting: SenderStatus[] = [];
  for await (const status of lazy) waiting.push(status);
  assert.equal(waiting.length, 256);
  assert.equal(waiting.at(-1)?.state, "closed");
});

Deno.test("writable: every chunk is on disk when it closes; a full queue errors it", async () => {
  await using bench = new SenderBench(NO_HOLD);
  bench.server.stop();
  const sender = await bench.open({ queueOptions: { maxPackets: 100 } });
  const writer = sender.writable.getWriter();
  for (const bytes of packets(100)) await writer.write(bytes);
  await writer.close();
  assert.equal(sender.stats().queue.packets, 100);
  const full = sender.writable.getWriter();
  await assert.rejects(async () => {
    await full.write(packet(101));
    await full.close();
  }, QueueFullError);
  await full.closed.catch(() => {});
});

Deno.test("packets dropped for want of room are told", async () => {
  await using bench = new SenderBench(NO_HOLD);
  bench.server.stop();
  const sender = await bench.open({ queueOptions: { maxPackets: 10, overflow: "drop-oldest" } });
  const told = seen(sender, ({ words }) => /too many packets: dropped the 5 oldest/.test(words));
  await sender.enqueueMany(packets(10));
  await sender.enqueueMany(packets(5));
  await told;
  assert.equal(sender.stats().queue.droppedPackets, 5);
});

Deno.test("the log is words, at the level of their weight", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const lines: string[] = [];
  const log = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  const logger = { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
  const sender = await bench.open({ logger, holdMs: 60_000 });
  await sender.enqueue(packet(1));
  const connection = await bench.server.accept();
  await drained(sender);
  connection.close();
  await seen(sender, ({ verdict }) => verdict.kind === "reset");
  assert.ok(lines.some((line) => /^info: connected to 127/.test(line)), lines.join("\n"));
  assert.ok(
    lines.some((line) => /^warn: connection given up: reset by .*; 1 packet will/.test(line)),
    lines.join("\n"),
  );
});

Deno.test("bad options are refused before anything is opened", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const bad: [Partial<SenderOptions>, RegExp][] = [
    [{ holdMs: -1 }, /holdMs must be from 0 to 2073600000, got -1/],
    [{ holdMs: NaN }, /holdMs/],
    [{ stallTimeoutMs: 0 }, /stallTimeoutMs must be from 100 to /],
    [{ maxInFlightBytes: 0 }, /maxInFlightBytes/],
    [{ connectTimeoutMs: 1 }, /connectTimeoutMs/],
    [{ backoffCapMs: -5 }, /backoffCapMs/],
    [{ socket: { tos: 999 } }, /tos/],
    [{ remote: "http://127.0.0.1:80" }, /expected tcp:\/\/HOST:PORT/],
    [{ remote: "tcp://127.0.0.1" }, /port/],
    [{ remote: "tcp://127.0.0.1:99999" }, /a host or a port that cannot be/],
    [{ remote: { hostname: "127.0.0.1", port: 0 } }, /port/],
  ];
  for (const [options, message] of bad) {
    await assert.rejects(bench.open(options), message);
  }
  assert.equal([...Deno.readDirSync(bench.dir.path)].length, 0);
});

Deno.test("what only JavaScript can get wrong is refused in words", async () => {
  using dir = new TempDir();
  const open = (...given: unknown[]) => Sender.open(...given as [string, string]);
  const wrong: readonly (readonly [given: readonly unknown[], RegExp])[] = [
    [[{ queue: dir.queue }], /^TypeError: Sender\.open needs the server as well/],
    [[{}], /^TypeError: Sender\.open needs a queue/],
    [[null], /^TypeError: Sender\.open needs a queue/],
    [[dir.queue, new URL("tcp://localhost:1")], /^TypeError: A remote is "tcp:/],
    [[dir.queue, { host: "localhost", port: 1 }], /^TypeError: A remote is "tcp:/],
    [[dir.queue, { scheme: "udp", hostname: "localhost", port: 1 }], /^TypeError: A remote is/],
    [[dir.queue, "tcp://localhost:1", { socket: null }], /^OptionError: socket must be an object/],
    [
      [dir.queue, "tcp://localhost:1", { socket: { noDelai: true } }],
      /^OptionError: socket\.noDelai/,
    ],
    [[dir.queue, "tcp://localhost:1", { socket: { keepAlive: true } }], /^OptionError: keepAlive/],
    [[dir.queue, "tcp://localhost:1", { queueOptions: { maxByte: 1 } }], /^OptionError: maxByte /],
    [
      [dir.queue, "tls://localhost:1", { tls: { fingerprint: "" } }],
      /^OptionError: tls\.fingerprint /,
    ],
    [[dir.queue, "tcp://localhost:1", { via: null }], /^OptionError: via must be an object/],
    [[dir.queue, "tls://localhost:1", { tls: () => 5 }], /^OptionError: tls must be an object/],
  ];
  for (const [given, words] of wrong) {
    await assert.rejects(open(...given), (error) => words.test(String(error)), String(words));
  }
  const path = new URL("file:///outbox.db") as unknown as string;
  await assert.rejects(OutboundQueue.open(path), /^TypeError: path must be text/);
  await assert.rejects(spoolQueue(dir.queue, undefined as unknown as string), /needs two texts/);
  assert.throws(
    () => framePacket("text" as unknown as Uint8Array, "lines"),
    /must be a Uint8Array/,
  );
});

Deno.test("a queue that is closed is not sent from, and a sender whose queue is closed ends", async () => {
  await using world = new SenderBench();
  const queue = await OutboundQueue.open(world.dir.queue);
  await queue.enqueue("x");
  world.server.stop();
  const sender = await world.open({ queue });
  await queue.close();
  await assert.rejects(world.open({ queue }), { name: "ClosedError" });
  world.server.start();
  await assert.rejects(within("it ends", sender.closed), { name: "ClosedError" });
});

Deno.test("a sender whose queue is closed ends at once, also where it has nothing to ask of it", async (t) => {
  const moments: [string, (bench: SenderBench, sender: Sender) => Promise<void>][] = [
    ["nothing to send", async () => {}],
    ["everything sent", async (_, sender) => {
      await sender.enqueue("a\n");
      await until("it is confirmed", () => sender.stats().confirmedPackets === 1);
    }],
    ["the server is away", async (bench, sender) => {
      bench.server.stop();
      await sender.enqueue("a\n");
      await until("it tries again later", () => sender.state === "backing-off");
    }],
  ];
  for (const [name, reach] of moments) {
    await t.step(name, async () => {
      await using bench = new SenderBench({ holdMs: 0, backoffFirstMs: 60_000 });
      bench.server.readAll();
      const queue = await OutboundQueue.open(bench.dir.queue);
      const sender = await bench.open({ queue });
      await reach(bench, sender);
      await queue.close();
      await assert.rejects(within("it ends", sender.closed), { name: "ClosedError" });
      await sender.close().catch(() => {});
      // Nobody else would be let in.
      using _lock = await SenderLock.acquire(bench.dir.queue);
    });
  }
  for (const moment of ["the server is away", "packets are held"]) {
    await t.step(`it is being closed for as long as it takes, and ${moment}`, async () => {
      await using bench = new SenderBench({ holdMs: 60_000, backoffFirstMs: 60_000 });
      if (moment === "packets are held") bench.server.readAll();
      else bench.server.stop();
      const queue = await OutboundQueue.open(bench.dir.queue);
      const sender = await bench.open({ queue });
      await sender.enqueue("a\n");
      await until(moment, () => sender.stats().heldPackets > 0 || sender.state === "backing-off");
      const closed = sender.close({ deliverTimeoutMs: Infinity });
      await queue.close();
      await assert.rejects(within("it ends", closed), { name: "ClosedError" });
      using _lock = await SenderLock.acquire(bench.dir.queue);
    });
  }
  await t.step("it is being closed, too, and delivers nothing any more: as ever", async () => {
    for (const packets of [0, 3]) {
      await using bench = new SenderBench({ backoffFirstMs: 60_000 });
      const queue = await OutboundQueue.open(bench.dir.queue);
      bench.server.stop();
      const sender = await bench.open({ queue });
      for (let n = 0; n < packets; n++) await sender.enqueue("a\n");
      const state = packets === 0 ? "idle" : "backing-off";
      await until("there is nothing to do", () => sender.state === state);
      await Promise.all([queue.close(), sender.close({ deliverTimeoutMs: 0 })]);
    }
  });
});

Deno.test("close delivers what was enqueued before, whether or not anybody waits for that", async () => {
  await using world = new SenderBench({ holdMs: 0 });
  const sender = await world.open();
  const enqueued = [sender.enqueue("a\n"), sender.enqueueMany(["b\n", "c\n"])];
  const closed = sender.close();
  const connection = await world.server.accept();
  assert.equal(await connection.readUntil("c\n"), "a\nb\nc\n");
  connection.close();
  await closed;
  await Promise.all(enqueued);
});

Deno.test("a queue that cannot be closed can be sent from all the same, by the next sender", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const sender = await Sender.open(bench.dir.queue, "tcp://127.0.0.1:1", {
    queueOptions: { driver: failsToClose },
  });
  await assert.rejects(sender.close({ deliverTimeoutMs: 0 }), /injected on close/);
  using _lock = await SenderLock.acquire(bench.dir.queue);
});

Deno.test("a sender that cannot be made of its dialer keeps nobody from sending", async () => {
  await using bench = new SenderBench();
  const nothing = null as unknown as Dialer;
  await assert.rejects(bench.open({ dialer: nothing }), /^OptionError: dialer must have a dial/);
  const unknown: Dialer = {
    get remote(): string {
      throw new TypeError("not known yet");
    },
    dial: () => Promise.reject(new Error("nowhere")),
  };
  await assert.rejects(bench.open({ dialer: unknown }), /^TypeError: not known yet/);
  // It would be said that it cannot be connected to undefined; or half a sender would go on.
  for (const remote of [undefined, 5n] as unknown[] as string[]) {
    await assert.rejects(
      bench.open({ dialer: { remote, dial: unknown.dial.bind(unknown) } }),
      /^OptionError: dialer must have a dial\(\), and a remote as text/,
    );
  }
  await bench.open();
});

Deno.test("a queue that was handed over is closed, also where the sender cannot be opened", async (t) => {
  using dir = new TempDir();
  const failures: [string, Omit<SenderOptions, "queue">][] = [
    ["an option", { remote: "tcp://127.0.0.1:1", holdMs: -1 }],
    ["the remote", { remote: "nowhere" }],
    ["the way", { remote: "tcp://127.0.0.1:1", via: "ftp://127.0.0.1:1" }],
    ["the right to send", { remote: "tcp://127.0.0.1:1", signal: AbortSignal.abort() }],
  ];
  await (await OutboundQueue.open(dir.queue)).close();
  using _lock = await SenderLock.acquire(dir.queue);
  for (const [name, options] of failures) {
    await t.step(name, async () => {
      const queue = await OutboundQueue.open(dir.queue);
      await assert.rejects(Sender.open({ ...options, queue, closesQueue: true }));
      await assert.rejects(queue.enqueue("more"), ClosedError);
      // One that was only lent is not.
      await using lent = await OutboundQueue.open(dir.queue);
      await assert.rejects(Sender.open({ ...options, queue: lent }));
      await lent.enqueue("more");
    });
  }
});

Deno.test("what read() gives is the caller's: the sender sends what was stored", async () => {
  await using bench = new SenderBench(NO_HOLD);
  const texts = bench.server.readAll();
  await using queue = await OutboundQueue.open(bench.dir.queue);
  const changed = Promise.withResolvers<void>();
  const sender = await bench.open({ queue, session: { open: () => changed.promise } });
  await sender.enqueueMany(packets(3));
  const [first, second] = await queue.read(0, Infinity);
  assert(first !== undefined && second !== undefined);
  first.payload.fill(0);
  structuredClone(second.payload, { transfer: [second.payload.buffer as ArrayBuffer] });
  changed.resolve();
  await drained(sender);
  await sender.close();
  assert.deepEqual(texts, [lines(3)]);
});
