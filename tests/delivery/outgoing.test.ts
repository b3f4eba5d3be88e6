/**
 * The outgoing side against a wire that takes what it likes: what stands in the stream,
 * and in which order.
 */
import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { PacketBatch, Wire } from "../../src/base/ports.ts";
import { Heartbeats } from "../../src/delivery/heartbeats.ts";
import { Ledger } from "../../src/delivery/ledger.ts";
import { WatchedTime } from "../../src/delivery/liveness.ts";
import { Outgoing } from "../../src/delivery/outgoing.ts";
import { Debt } from "../../src/delivery/owed.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import fc from "../support/properties.ts";
import { until } from "../support/until.ts";

const PING = { send: bytes("<ping>"), idleMs: 100, expect: undefined, answerTimeoutMs: 50 };

class Bench {
  readonly clock: ManualClock;
  readonly ledger = new Ledger(0);
  readonly heartbeats: Heartbeats;
  readonly watched: WatchedTime;
  readonly outgoing: Outgoing;
  /** What the kernel has taken, with our FIN in its place. */
  taken = "";
  keepsTaken = true;
  /** How many bytes the next writes take, one after the other; then all. */
  readonly takes: number[] = [];
  /** How long a write takes, for each 64 KiB. */
  writeMs = 0;
  /** How large each was. */
  readonly writes: number[] = [];
  /** While set, writes wait. */
  #full: PromiseWithResolvers<void> | undefined;
  failure: unknown;
  /** The last packet in the queue. */
  lastId = 0;
  #nextId = 1;

  constructor(
    plan: typeof PING | (Omit<typeof PING, "expect"> & { expect: RegExp }) = PING,
    clock = new ManualClock(),
  ) {
    this.clock = clock;
    this.watched = new WatchedTime(clock.nowMs());
    this.heartbeats = new Heartbeats(plan);
    this.outgoing = new Outgoing({
      wire: { write: (chunk: Uint8Array) => this.#write(chunk) } as Wire,
      clock: this.clock,
      ledger: this.ledger,
      heartbeats: this.heartbeats,
      watched: this.watched,
      response: new Debt(Infinity),
      goodbye: bytes("<bye>"),
      onWritten: () => {},
      onFailed: (error) => this.failure = error,
      sendFin: () => this.taken += "<fin>",
      lastId: () => this.lastId,
    });
  }

  fill(): void {
    this.#full ??= Promise.withResolvers();
  }

  makeRoom(): void {
    this.#full?.resolve();
    this.#full = undefined;
  }

  async #write(chunk: Uint8Array): Promise<number> {
    await this.#full?.promise;
    this.writes.push(chunk.length);
    this.clock.advance(this.writeMs * chunk.length / 65_536);
    const takenBytes = Math.min(chunk.length, this.takes.shift() ?? Infinity);
    if (this.keepsTaken) this.taken += new TextDecoder().decode(chunk.subarray(0, takenBytes));
    return takenBytes;
  }

  async send(...texts: string[]): Promise<void> {
    let end = 0;
    const batch: PacketBatch = {
      firstId: this.#nextId,
      bytes: bytes(texts.join("")),
      ends: Uint32Array.from(texts, (text) => end += text.length),
      expiresAtMs: Infinity,
    };
    this.#nextId += texts.length;
    this.outgoing.send([batch]);
    await this.settle();
  }

  async settle(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
  }

  acknowledgeAll(): void {
    this.ledger.acknowledge(this.ledger.writtenBytes);
  }

  beat(): number {
    return this.outgoing.beat(this.clock.nowMs());
  }
}

Deno.test("a heartbeat is due when nothing was sent for so long and all is acknowledged", async () => {
  const bench = new Bench();
  assert.equal(bench.beat(), 100);
  bench.clock.advance(60);
  await bench.send("abc");
  bench.clock.advance(500);
  assert.equal(bench.beat(), Infinity); // Not acknowledged.
  bench.acknowledgeAll();
  bench.beat();
  await bench.settle();
  assert.equal(bench.taken, "abc<ping>");
  assert.equal(bench.ledger.drainedPackets, 1);
  // Its own bytes are under way, and are no packet's.
  assert.equal(bench.beat(), Infinity);
  assert.equal(bench.ledger.inFlightBytes, 6);
  assert.equal(bench.ledger.inFlightPackets, 0);
  assert.equal(bench.ledger.carriesPackets, false);
  bench.acknowledgeAll();
  assert.equal(bench.beat(), 100);
  assert.equal(bench.ledger.drainedPackets, 1);
});

Deno.test("an answer that is due holds the next heartbeat back, and is found in parts", async () => {
  const bench = new Bench({ ...PING, expect: /pong/ });
  bench.clock.advance(100);
  bench.beat();
  await bench.settle();
  bench.acknowledgeAll();
  bench.clock.advance(30);
  assert.equal(bench.beat(), Infinity);
  assert.equal(bench.heartbeats.debt.overdueInMs(bench.clock.nowMs()), 20);
  bench.heartbeats.heard(bytes("other po"));
  assert.equal(bench.heartbeats.debt.overdueInMs(bench.clock.nowMs()), 20);
  bench.heartbeats.heard(bytes("ng"));
  assert.equal(bench.heartbeats.debt.overdueInMs(bench.clock.nowMs()), Infinity);
  assert.equal(bench.beat(), 70);
});

Deno.test("the goodbye goes out before our FIN once everything is acknowledged", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.acknowledgeAll();
  bench.outgoing.finish(true);
  bench.outgoing.finish(true);
  await bench.settle();
  assert.equal(bench.taken, "abc<bye><fin>");
  assert.throws(() => bench.outgoing.send([]), TypeError);
  bench.clock.advance(1000);
  assert.equal(bench.beat(), Infinity);
});

Deno.test("with packets that are not confirmed there is no goodbye before our FIN", async () => {
  const bench = new Bench();
  await bench.send("abc");
  bench.acknowledgeAll();
  bench.outgoing.finish(false);
  await bench.settle();
  assert.equal(bench.taken, "abc<fin>");
});

Deno.test("without every acknowledgement there is no goodbye, and our FIN waits for the last byte", async () => {
  const bench = new Bench();
  bench.fill();
  await bench.send("abc");
  bench.outgoing.finish(true);
  assert.equal(bench.taken, "");
  bench.makeRoom();
  await bench.settle();
  assert.equal(bench.taken, "abc<fin>");
});

Deno.test("after a failed write nothing goes out any more", async () => {
  const bench = new Bench();
  bench.takes.push(2, 0);
  await bench.send("abcdef");
  assert.ok(bench.failure instanceof Error);
  await bench.send("more");
  bench.outgoing.finish(true);
  await bench.settle();
  assert.equal(bench.taken, "ab");
});

Deno.test("whatever the kernel takes at a time, packets are whole and heartbeats stand between", async () => {
  const packet = fc.integer({ min: 1, max: 9 }).map((length) => "p".repeat(length));
  const step = fc.oneof(
    fc.record({ send: fc.array(packet, { minLength: 1, maxLength: 4 }) }),
    fc.record({ waitMs: fc.constantFrom(10, 100, 300) }),
    fc.record({ full: fc.boolean() }),
    fc.constant({ acknowledge: true as const }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 40 }),
      async (steps, takes) => {
        const bench = new Bench();
        bench.takes.push(...takes);
        let sent = "";
        for (const step of steps) {
          if ("send" in step) {
            const marked = step.send.map((text) => `(${text})`);
            sent += marked.join("");
            await bench.send(...marked);
          } else if ("waitMs" in step) bench.clock.advance(step.waitMs);
          else if ("full" in step) step.full ? bench.fill() : bench.makeRoom();
          else bench.acknowledgeAll();
          bench.beat();
        }
        bench.makeRoom();
        await bench.settle();
        assert.equal(bench.taken.replaceAll("<ping>", ""), sent);
        assert.match(bench.taken, /^(\(p+\)|<ping>)*$/);
        assert.equal(bench.ledger.writtenBytes, bench.taken.length);
      },
    ),
    { numRuns: 100 },
  );
});

/**
 * Sends 8 MiB in batches of 16 KiB, of which 64 KiB take so long, and so do others in their turn,
 * who store so many packets in it. Returns how many times 64 KiB were written in each turn, and
 * how large each write was. The first turn knows nothing of others; the last one has what is left.
 *
 * @param connections So many at the same time, 8 MiB each; what they write in a turn is added up.
 */
async function turns(
  writeMs: number,
  othersMs: number,
  stored = 1,
  connections = 1,
): Promise<{ readonly inTurn: number[]; readonly writes: number[] }> {
  const clock = new ManualClock();
  const benches = Array.from({ length: connections }, () => new Bench(PING, clock));
  const total = connections * 128 * 65_536;
  const written = () => benches.reduce((sum, { ledger }) => sum + ledger.writtenBytes, 0);
  const inTurn: number[] = [];
  let before = 0;
  const watch = (): void => {
    clock.advance(othersMs);
    for (const bench of benches) bench.lastId += stored;
    const writtenBytes = written();
    if (writtenBytes > before) inTurn.push((writtenBytes - before) / 65_536);
    before = writtenBytes;
    if (writtenBytes < total) setImmediate(watch);
  };
  setImmediate(watch);
  const batches = Array.from({ length: 512 }, (_, i): PacketBatch => ({
    firstId: i + 1,
    bytes: new Uint8Array(16_384),
    ends: Uint32Array.of(16_384),
    expiresAtMs: Infinity,
  }));
  for (const bench of benches) {
    bench.writeMs = writeMs;
    bench.keepsTaken = false;
    bench.outgoing.send(batches);
  }
  await until("all is written", () => written() === total);
  return { inTurn, writes: benches.flatMap(({ writes }) => writes) };
}

Deno.test("the memory of packets that nobody else has is given back once they are copied", async () => {
  const bench = new Bench();
  const batches = ["ab", "cd", "ef"].map((text, i): PacketBatch => ({
    firstId: 1 + i,
    bytes: bytes(text),
    ends: Uint32Array.of(2),
    expiresAtMs: Infinity,
    ...(i === 1 ? {} : { ownsMemory: true }),
  }));
  bench.fill();
  bench.outgoing.send(batches);
  // They are copied, and the write waits.
  assert.deepEqual(batches.map(({ bytes }) => bytes.length), [0, 2, 0]);
  bench.makeRoom();
  await bench.settle();
  assert.equal(bench.taken, "abcdef");
  assert.equal(bench.ledger.writtenBytes, 6);
});

Deno.test("what was written is nobody's any more, also where there is always more to write", async (t) => {
  setFlagsFromString("--expose-gc");
  const collectGarbage: () => void = runInNewContext("gc");
  for (const packetBytes of [10_000, 300_000]) {
    await t.step(`packets of ${packetBytes} bytes`, async () => {
      const bench = new Bench();
      bench.keepsTaken = false;
      const given: WeakRef<Uint8Array>[] = [];
      const give = (packets: number) => {
        for (let i = 0; i < packets; i++) {
          const batch: PacketBatch = {
            firstId: given.length + 1,
            bytes: new Uint8Array(packetBytes),
            ends: Uint32Array.of(packetBytes),
            expiresAtMs: Infinity,
          };
          given.push(new WeakRef(batch.bytes));
          bench.outgoing.send([batch]);
        }
      };
      const writes = 100;
      const inOne = Math.max(1, Math.floor(65_536 / packetBytes));
      bench.fill();
      give(2 * inOne);
      for (let written = 0; written < writes; written++) {
        give(inOne);
        bench.makeRoom();
        bench.fill();
        await bench.settle();
      }
      collectGarbage();
      const { assignedBytes, writtenBytes } = bench.ledger;
      const waiting = (assignedBytes - writtenBytes) / packetBytes;
      const kept = given.filter((bytes) => bytes.deref() !== undefined).length;
      assert.ok(writtenBytes > writes * packetBytes / 2, `${writtenBytes}`);
      assert.ok(waiting > 0 && kept <= waiting + 1, `${kept} are kept, ${waiting} wait`);
      bench.makeRoom();
      await bench.settle();
    });
  }
});

Deno.test("a kernel that takes all there is leaves others their turn, and writes a tenth as long as they work", async () => {
  // 5 ms for others: half a millisecond of writing.
  const shared = (await turns(0.125, 5)).inTurn.slice(1, -1);
  assert.ok(shared.length > 8, `${shared}`);
  assert.ok(shared.every((written) => written === 4), `${shared}`);
  // However little that is, one write.
  const least = (await turns(0.125, 0.5)).inTurn.slice(1, -1);
  assert.deepEqual([...new Set(least)], [1]);
  // As many packets as were stored, however little time that took: the queue does not grow.
  const kept = (await turns(0.125, 0.5, 20)).inTurn.slice(1, -1);
  assert.deepEqual([...new Set(kept)], [5]);
  // Where nobody stores, others are our own reading and removing: 2 ms, in large writes.
  const alone = await turns(0.125, 5, 0);
  assert.deepEqual([...new Set(alone.inTurn.slice(1, -1))], [16]);
  assert.deepEqual([...new Set(alone.writes.slice(1, -1))], [262_144]);
  // Several connections have these 2 ms together, in small writes.
  const four = await turns(0.125, 5, 0, 4);
  assert.deepEqual(four.inTurn.slice(1, 8), Array(7).fill(16));
  assert.deepEqual([...new Set(four.writes.slice(1, 80))], [65_536]);
  // By a clock that stands still: 4 MiB.
  assert.deepEqual((await turns(0, 0, 0)).inTurn.slice(0, 1), [64]);
});
