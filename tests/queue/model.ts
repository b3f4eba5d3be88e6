/**
 * The queue as arrays, and any sequence of operations held against it: what is true of one
 * store is true of each.
 */
import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { QueueFileError, QueueFullError } from "../../src/base/errors.ts";
import type { IdRange, QueueOptions } from "../../src/queue/options.ts";
import { type OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import type { DeadLetter, DeathReason, Overflow } from "../../src/queue/store/types.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { settle } from "./helpers.ts";

interface Packet {
  readonly id: number;
  readonly payload: Uint8Array;
  readonly enqueuedAtMs: number;
  readonly expiresAtMs: number;
}

/** The queue as arrays. Every packet ever stored is in one of them, or counted as gone. */
interface Model {
  packets: Packet[];
  dead: DeadLetter[];
  lastId: number;
  sentThrough: number;
  /** Nothing above it is in flight. */
  handedOut: number;
  /** What the wall clock has to be corrected by. */
  clockOffsetMs: number;
  storedPackets: number;
  removedPackets: number;
  droppedPackets: number;
  droppedBytes: number;
  expiredPackets: number;
  gaveUpPackets: number;
}

interface Limits {
  maxPackets: number;
  maxBytes: number;
  maxDeadPackets: number;
  maxDeadBytes: number;
  overflow: Exclude<Overflow, "wait">;
}

type Step =
  | { do: "enqueue"; sizes: number[]; ttlMs: number }
  | { do: "enqueueMany"; sizes: number[]; ttlMs: number }
  | { do: "enqueueAndRemove"; sizes: number[]; ttlMs: number; part: number }
  | { do: "remove"; part: number }
  | { do: "removePackets" | "removeDead"; part: number; length: number }
  | { do: "requeue"; part: number; length: number; ttlMs: number }
  | { do: "giveUp"; part: number; attempts: number }
  | { do: "rememberSent"; part: number }
  | { do: "handOut"; part: number; maxBytes: number }
  | { do: "sweep" }
  | { do: "pass"; byMs: number }
  | { do: "jump"; byMs: number }
  | { do: "read"; part: number; maxBytes: number }
  | { do: "reopen" }
  | { do: "fail"; statement: string; code: number; step: Step };

const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 90 });
const part = fc.double({ min: 0, max: 1.2, noNaN: true });
const ttlMs = fc.constantFrom(Infinity, Infinity, 1, 50, 1000);
const length = fc.integer({ min: 1, max: 60 });
const maxBytes = fc.integer({ min: 1, max: 900 });
const plainStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("enqueue" as const), sizes, ttlMs }),
  fc.record({ do: fc.constant("enqueueMany" as const), sizes, ttlMs }),
  fc.record({ do: fc.constant("enqueueAndRemove" as const), sizes, ttlMs, part }),
  fc.record({ do: fc.constant("remove" as const), part }),
  fc.record({ do: fc.constantFrom("removePackets" as const, "removeDead" as const), part, length }),
  fc.record({ do: fc.constant("requeue" as const), part, length, ttlMs }),
  fc.record({ do: fc.constant("giveUp" as const), part, attempts: fc.integer({ min: 0, max: 9 }) }),
  fc.record({ do: fc.constant("rememberSent" as const), part }),
  fc.record({ do: fc.constant("handOut" as const), part, maxBytes }),
  fc.record({ do: fc.constant("sweep" as const) }),
  fc.record({ do: fc.constant("pass" as const), byMs: fc.constantFrom(1, 60, 1500) }),
  fc.record({ do: fc.constant("jump" as const), byMs: fc.constantFrom(1500, 3e9, -1500, -2e11) }),
  fc.record({ do: fc.constant("read" as const), part, maxBytes }),
  fc.record({ do: fc.constant("reopen" as const) }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: plainStep },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("fail" as const),
      statement: fc.constantFrom("BEGIN IMMEDIATE", "DELETE", "INSERT", "UPDATE", "COMMIT"),
      code: fc.constantFrom(10, 13, 11, 8),
      step: plainStep,
    }),
  },
);
const limits: fc.Arbitrary<Limits> = fc.record({
  maxPackets: fc.constantFrom(5, 100, 10_000),
  maxBytes: fc.constantFrom(150, 3000, 10_000_000),
  // Which ones die is read off the dead letters, so that those must not go at once.
  maxDeadPackets: fc.constantFrom(200, 10_000),
  maxDeadBytes: fc.constantFrom(12_000, 10_000_000),
  overflow: fc.constantFrom("reject" as const, "drop-oldest" as const),
});

/** Where clocks begin to be believed across a restart. */
const FIRST_CREDIBLE_MS = Date.UTC(2026, 0, 1);

let payloadSeed = 0;
function payloadOf(size: number): Uint8Array {
  payloadSeed++;
  return Uint8Array.from({ length: size }, (_, i) => (payloadSeed * 31 + i * 7) & 0xff);
}

/** Where the queue of one run lies. */
export interface ModelPlace {
  /** Opens it, again and again. */
  open(options: QueueOptions): Promise<OutboundQueue>;
  /** Makes what it does fail. */
  readonly faults: {
    /** From now on, up to `times` statements that begin with `start` fail with SQLite's `code`. */
    fail(start: string, code: number, times: number): void | Promise<void>;
    heal(): void | Promise<void>;
  };
  /** Whether its faults change nothing but how long it takes. */
  readonly hidesFaults?: boolean;
  /** Sets its clock, where it has one of its own. */
  setTime?(wallMs: number): Promise<void>;
  /** Waits for what is under way by itself, where asking for dead letters does not. */
  quiet?(queue: OutboundQueue): Promise<void>;
}

/**
 * Any sequence of operations agrees with arrays.
 *
 * @param makePlace A new place for each run.
 * @param numRuns How many sequences.
 */
export async function checkAgainstArrays(
  makePlace: () => Promise<ModelPlace & AsyncDisposable>,
  numRuns: number,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(
      limits,
      fc.array(step, { minLength: 1, maxLength: 30 }),
      async (limits, steps) => {
        await using place = await makePlace();
        const run = await Run.open(place, limits);
        try {
          for (const one of steps) {
            await run.step(one);
            await run.compare();
          }
        } finally {
          await place.faults.heal();
          await run.queue.close();
        }
      },
    ),
    { numRuns },
  );
}

class Run {
  readonly model: Model = {
    packets: [],
    dead: [],
    lastId: 0,
    sentThrough: 0,
    handedOut: 0,
    clockOffsetMs: 0,
    storedPackets: 0,
    removedPackets: 0,
    droppedPackets: 0,
    droppedBytes: 0,
    expiredPackets: 0,
    gaveUpPackets: 0,
  };
  faulty = false;

  private constructor(
    readonly home: ModelPlace,
    readonly limits: Limits,
    readonly clock: ManualClock,
    public queue: OutboundQueue,
  ) {}

  static async open(place: ModelPlace, limits: Limits): Promise<Run> {
    const clock = new ManualClock();
    await place.setTime?.(clock.wallMs());
    const queue = await place.open({ ...limits, clock });
    return new Run(place, limits, clock, queue);
  }

  idAt(part: number): number {
    const { packets, lastId } = this.model;
    const first = packets[0]?.id ?? lastId + 1;
    return Math.max(0, first - 1 + Math.floor(part * (lastId - first + 1)));
  }

  /** Anywhere, also where nothing is any more. */
  rangeAt(part: number, length: number): IdRange {
    const firstId = Math.floor(part * this.model.lastId);
    return { firstId, lastId: firstId + length };
  }

  async step(step: Step): Promise<void> {
    switch (step.do) {
      case "enqueue":
        return await this.enqueueEach(step.sizes, step.ttlMs);
      case "enqueueMany": {
        const { ttlMs } = step;
        const payloads = step.sizes.map(payloadOf);
        const before = this.model.lastId;
        const [outcome] = await Promise.allSettled([this.queue.enqueueMany(payloads, { ttlMs })]);
        this.judge([payloads], ttlMs, [
          outcome?.status === "fulfilled" ? { ...outcome, value: outcome.value.firstId } : outcome,
        ]);
        if (outcome?.status === "fulfilled") {
          assert.deepEqual(outcome.value, {
            firstId: before + 1,
            lastId: before + payloads.length,
          });
        }
        return;
      }
      case "enqueueAndRemove": {
        const id = Math.min(this.idAt(step.part), this.model.lastId);
        const removal = sendingSideOf(this.queue).removeThrough(id).then(() => true, refusedByFile);
        const enqueues = this.enqueueEach(step.sizes, step.ttlMs, async () => {
          if (await removal) this.forget((packet) => packet.id <= id);
        });
        await Promise.all([removal, enqueues]);
        return;
      }
      case "remove": {
        const id = this.idAt(step.part);
        if (await sendingSideOf(this.queue).removeThrough(id).then(() => true, refusedByFile)) {
          this.forget((packet) => packet.id <= id);
        }
        return;
      }
      case "removePackets": {
        const range = this.rangeAt(step.part, step.length);
        const removed = await this.queue.removePackets(range).catch(refusedByFile);
        if (removed === false) return;
        const gone = this.model.packets.filter(within(range));
        assert.deepEqual(removed, { packets: gone.length, bytes: bytesOf(gone) });
        this.forget(within(range));
        return;
      }
      case "removeDead": {
        const range = this.rangeAt(step.part, step.length);
        const removed = await this.queue.removeDeadLetters(range).catch(refusedByFile);
        if (removed === false) return;
        const gone = this.model.dead.filter(within(range));
        assert.deepEqual(removed, { packets: gone.length, bytes: bytesOf(gone) });
        this.model.dead = this.model.dead.filter((letter) => !within(range)(letter));
        this.model.removedPackets += gone.length;
        return;
      }
      case "requeue": {
        const range = this.rangeAt(step.part, step.length);
        const firstId = this.model.lastId + 1;
        const back = this.model.dead.filter(within(range));
        const done = await this.queue.requeue(range, { ttlMs: step.ttlMs }).catch(refusedByFile);
        // So few are one transaction; a failure may also have met the next, which finds none.
        if (done === false && this.queue.lastId < firstId) return;
        for (const { payload } of back) this.place(payload, step.ttlMs);
        this.model.dead = this.model.dead.filter((letter) => !within(range)(letter));
        if (done === false) return;
        const ids = back.length === 0 ? undefined : { firstId, lastId: this.model.lastId };
        assert.deepEqual(done, {
          ...{ packets: back.length, bytes: bytesOf(back), ids, damagedPackets: 0 },
        });
        return;
      }
      case "giveUp": {
        const id = this.idAt(step.part);
        if (
          await sendingSideOf(this.queue).giveUp(id, step.attempts).then(() => true, refusedByFile)
        ) {
          this.die((packet) => packet.id === id, "gave-up", step.attempts);
        }
        return;
      }
      case "rememberSent": {
        const id = Math.min(this.idAt(step.part), this.model.lastId);
        sendingSideOf(this.queue).rememberSent(id);
        this.model.sentThrough = Math.max(this.model.sentThrough, id);
        return;
      }
      case "handOut":
        return await this.handOut(this.idAt(step.part), step.maxBytes);
      case "sweep": {
        const end = sendingSideOf(this.queue).sweepExpired();
        await this.quiet();
        end();
        const due = (packet: Packet) => packet.id > this.model.handedOut && this.isOver(packet);
        await this.adoptDead(due);
        if (!this.faulty) assert.deepEqual(this.model.packets.filter(due), []);
        return;
      }
      case "pass":
        await this.home.setTime?.(this.placeMs + step.byMs);
        this.clock.advance(step.byMs);
        return;
      case "jump":
        // Nobody looks at the clock while it is between two readings.
        await sendingSideOf(this.queue).pollOtherProcesses().catch(refusedByFile);
        this.clock.wall += step.byMs;
        this.model.clockOffsetMs -= step.byMs;
        return;
      case "read": {
        const after = this.idAt(step.part);
        const expected: number[] = [];
        let sum = 0;
        for (const { id, payload } of this.model.packets) {
          if (id <= after) continue;
          sum += payload.length;
          if (expected.length > 0 && sum > step.maxBytes) break;
          expected.push(id);
        }
        const got = (await this.queue.read(after, step.maxBytes)).map(({ id }) => id);
        // It may be fewer, where memory ends or the file is asked for a few rows only; never
        // none and never others.
        assert.deepEqual(got, expected.slice(0, Math.max(got.length, 1)));
        return;
      }
      case "reopen":
        // A clock that says 2019 does not tell how long ago the last commit was, and no time
        // is taken to have passed since. A clock that was set makes closing a commit.
        if (this.home.setTime === undefined && this.clock.wallMs() < FIRST_CREDIBLE_MS) {
          await this.step({ do: "jump", byMs: -1500 });
        }
        await this.queue.close();
        this.queue = await this.home.open({ ...this.limits, clock: this.clock });
        this.model.handedOut = 0;
        return;
      case "fail": {
        this.faulty = this.home.hidesFaults !== true;
        await this.home.faults.fail(step.statement, step.code, 3);
        if (step.step.do !== "reopen") await this.step(step.step);
        await this.home.faults.heal();
        this.faulty = false;
        return;
      }
    }
  }

  /** What a sweep does, each step behind a question to the file that is answered in order. */
  async quiet(): Promise<void> {
    for (let i = 0; i < 8; i++) {
      await this.queue.deadLetters(0, 1);
      await this.home.quiet?.(this.queue);
      await settle();
    }
  }

  /** As the sender asks: what has expired and is next dies, what is given out does not. */
  async handOut(afterId: number, maxBytes: number): Promise<void> {
    const batches = await sendingSideOf(this.queue).readBatches(afterId, maxBytes).catch(
      refusedByFile,
    );
    this.model.handedOut = afterId;
    const isAhead = (packet: Packet) => packet.id > afterId;
    // More may die than had to: what is due behind shares the transaction.
    await this.adoptDead((packet) => isAhead(packet) && this.isOver(packet));
    if (batches === false) return;
    const ahead = this.model.packets.filter(isAhead);
    const over = ahead.findIndex((packet) => this.isOver(packet));
    const fresh = over === -1 ? ahead : ahead.slice(0, over);
    assert.notEqual(over, 0, "what is next has not expired");
    const given = batches.flatMap(({ firstId, ends, expiresAtMs }) =>
      Array.from(ends, (_, i) => ({ id: firstId + i, expiresAtMs }))
    );
    assert.deepEqual(
      given,
      // The sender is told by the wall clock.
      fresh.slice(0, given.length).map(({ id, expiresAtMs }) => (
        { id, expiresAtMs: expiresAtMs - this.model.clockOffsetMs }
      )),
    );
    const bytes = bytesOf(fresh.slice(0, given.length));
    assert(given.length === 1 || bytes <= maxBytes, `${bytes} of ${maxBytes} bytes`);
    assert(given.length > 0 || fresh.length === 0);
    this.model.handedOut = given.at(-1)?.id ?? afterId;
  }

  /** The clock by which it is written when something happened: nobody sets a place's own. */
  get placeMs(): number {
    return this.clock.wallMs() + (this.home.setTime === undefined ? 0 : this.model.clockOffsetMs);
  }

  isOver({ expiresAtMs }: Packet): boolean {
    return expiresAtMs <= this.clock.wallMs() + this.model.clockOffsetMs;
  }

  /** Takes over which packets have expired, of those that may. */
  async adoptDead(mayExpire: (packet: Packet) => boolean): Promise<void> {
    const letters = new Set((await this.queue.deadLetters(0, Infinity)).map(({ id }) => id));
    this.die(
      (packet) => {
        if (!letters.has(packet.id)) return false;
        assert(mayExpire(packet), `packet ${packet.id} has not expired, or is in flight`);
        return true;
      },
      "expired",
      0,
    );
  }

  die(dies: (packet: Packet) => boolean, reason: DeathReason, attempts: number): void {
    const { model } = this;
    const dead = model.packets.filter(dies);
    model.packets = model.packets.filter((packet) => !dead.includes(packet));
    for (const { id, payload, enqueuedAtMs } of dead) {
      const sent = id <= model.sentThrough;
      const diedAtMs = this.placeMs;
      model.dead.push({
        id,
        enqueuedAtMs,
        diedAtMs,
        reason,
        sent,
        attempts,
        words: undefined,
        payload,
      });
    }
    model.dead.sort((a, b) => a.id - b.id);
    if (reason === "expired") model.expiredPackets += dead.length;
    else model.gaveUpPackets += dead.length;
    if (dead.length > 0) this.dropDead();
  }

  async enqueueEach(
    sizes: readonly number[],
    ttlMs: number,
    first?: () => Promise<void>,
  ): Promise<void> {
    const payloads = sizes.map(payloadOf);
    const outcomes = await Promise.allSettled(
      payloads.map((p) => this.queue.enqueue(p, { ttlMs })),
    );
    await first?.();
    this.judge(payloads.map((p) => [p]), ttlMs, outcomes);
  }

  /** At the end of the queue. */
  place(payload: Uint8Array, ttlMs: number): void {
    const enqueuedAtMs = this.placeMs;
    const id = ++this.model.lastId;
    const expiresAtMs = this.clock.wallMs() + this.model.clockOffsetMs + ttlMs;
    this.model.packets.push({ id, payload, enqueuedAtMs, expiresAtMs });
  }

  /** What was stored goes into the model; what was refused must have been refused rightly. */
  judge(
    units: readonly (readonly Uint8Array[])[],
    ttlMs: number,
    outcomes: readonly (PromiseSettledResult<number> | undefined)[],
  ): void {
    if (!this.faulty) {
      const refused = outcomes.map((outcome) => outcome?.status === "rejected");
      assert.deepEqual(refused, this.predictRefusals(units));
    }
    for (const [i, payloads] of units.entries()) {
      const outcome = outcomes[i];
      assert(outcome);
      if (outcome.status === "rejected") {
        const { reason } = outcome;
        if (reason instanceof QueueFileError) continue; // Injected: nothing of it may be stored.
        assert(reason instanceof QueueFullError, String(reason));
        assert.equal(reason.limitValue, this.limits[reason.limit]);
        continue;
      }
      assert.equal(outcome.value, this.model.lastId + 1, "ids follow each other");
      for (const payload of payloads) this.place(payload, ttlMs);
      this.model.storedPackets += payloads.length;
    }
    if (this.limits.overflow === "drop-oldest") this.drop();
  }

  /**
   * Which units are refused when all are handed over in one tick. With `"reject"`
   * first by what already waits in memory, then, in order, by what the file holds.
   */
  predictRefusals(units: readonly (readonly Uint8Array[])[]): boolean[] {
    const { maxPackets, maxBytes, overflow } = this.limits;
    const fits = (packets: number, bytes: number) => packets <= maxPackets && bytes <= maxBytes;
    let waitingPackets = 0, waitingBytes = 0;
    let heldPackets = this.model.packets.length;
    let heldBytes = bytesOf(this.model.packets);
    return units.map((payloads) => {
      const packets = payloads.length, bytes = sum(payloads);
      if (overflow === "drop-oldest") return !fits(packets, bytes);
      if (!fits(waitingPackets + packets, waitingBytes + bytes)) return true;
      waitingPackets += packets;
      waitingBytes += bytes;
      if (!fits(heldPackets + packets, heldBytes + bytes)) return true;
      heldPackets += packets;
      heldBytes += bytes;
      return false;
    });
  }

  drop(): void {
    const { maxPackets, maxBytes } = this.limits;
    const { packets } = this.model;
    let bytes = bytesOf(packets);
    while (packets.length > maxPackets || bytes > maxBytes) {
      bytes -= this.dropped(packets.shift());
    }
  }

  /** The oldest dead letters go. */
  dropDead(): void {
    const { maxDeadPackets, maxDeadBytes } = this.limits;
    const { dead } = this.model;
    let bytes = bytesOf(dead);
    while (dead.length > maxDeadPackets || bytes > maxDeadBytes) {
      bytes -= this.dropped(dead.shift());
    }
  }

  dropped(one: { readonly payload: Uint8Array } | undefined): number {
    assert(one);
    this.model.droppedPackets++;
    this.model.droppedBytes += one.payload.length;
    return one.payload.length;
  }

  forget(goes: (packet: Packet) => boolean): void {
    const before = this.model.packets.length;
    this.model.packets = this.model.packets.filter((packet) => !goes(packet));
    this.model.removedPackets += before - this.model.packets.length;
  }

  async compare(): Promise<void> {
    const { model } = this;
    const { packets, dead, lastId } = model;
    const stats = this.queue.stats();
    assert.equal(this.queue.lastId, lastId);
    assert.equal(this.queue.removedThroughId, (packets[0]?.id ?? lastId + 1) - 1);
    assert.equal(stats.packets, packets.length);
    assert.equal(stats.bytes, bytesOf(packets));
    assert.equal(stats.oldestEnqueuedAtMs, packets[0]?.enqueuedAtMs);
    assert.equal(stats.deadPackets, dead.length);
    assert.equal(stats.deadBytes, bytesOf(dead));
    assert.equal(stats.expiredPackets, model.expiredPackets);
    assert.equal(stats.gaveUpPackets, model.gaveUpPackets);
    assert.equal(
      packets.length + dead.length + model.removedPackets + model.droppedPackets,
      model.storedPackets,
      "every packet is in one place, or was removed or dropped",
    );
    assert.equal(stats.waitingPackets, 0);
    assert.equal(stats.waitingBytes, 0);
    assert.equal(stats.droppedPackets, model.droppedPackets);
    assert.equal(stats.droppedBytes, model.droppedBytes);
    const read = [];
    for (let after = 0;;) {
      const some = await this.queue.read(after, 1000);
      if (some.length === 0) break;
      read.push(...some);
      after = some.at(-1)?.id ?? Infinity;
    }
    assert.deepEqual(read.map(({ id }) => id), packets.map(({ id }) => id));
    for (const [i, { payload }] of read.entries()) {
      assert(equal(payload, packets[i]?.payload), `payload of ${read[i]?.id}`);
    }
    assert.deepEqual(await this.queue.deadLetters(0, Infinity), dead);
  }
}

function refusedByFile(error: unknown): false {
  assert(error instanceof QueueFileError, String(error));
  return false;
}

function within({ firstId, lastId }: IdRange): (packet: { readonly id: number }) => boolean {
  return ({ id }) => id >= firstId && id <= lastId;
}

function bytesOf(packets: readonly { readonly payload: Uint8Array }[]): number {
  return sum(packets.map(({ payload }) => payload));
}

function sum(payloads: readonly Uint8Array[]): number {
  return payloads.reduce((total, { length }) => total + length, 0);
}

function equal(a: Uint8Array, b: Uint8Array | undefined): boolean {
  return a.length === b?.length && a.every((byte, i) => byte === b[i]);
}
