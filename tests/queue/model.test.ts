import assert from "node:assert/strict";
import fc from "fast-check";
import { QueueFileError, QueueFullError } from "../../src/errors.ts";
import { SqliteError } from "../../src/queue/driver.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import type { Overflow } from "../../src/queue/store.ts";
import { FaultDriver, TempDir } from "./helpers.ts";

/** The queue as an array. */
interface Model {
  packets: { id: number; payload: Uint8Array }[];
  lastId: number;
  droppedPackets: number;
  droppedBytes: number;
}

interface Limits {
  maxPackets: number;
  maxBytes: number;
  overflow: Exclude<Overflow, "wait">;
}

type Step =
  | { do: "enqueue"; sizes: number[] }
  | { do: "enqueueMany"; sizes: number[] }
  | { do: "enqueueAndRemove"; sizes: number[]; part: number }
  | { do: "remove"; part: number }
  | { do: "read"; part: number; maxBytes: number }
  | { do: "reopen" }
  | { do: "fail"; statement: string; code: number; step: Step };

const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 90 });
const part = fc.double({ min: 0, max: 1.2, noNaN: true });
const plainStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("enqueue" as const), sizes }),
  fc.record({ do: fc.constant("enqueueMany" as const), sizes }),
  fc.record({ do: fc.constant("enqueueAndRemove" as const), sizes, part }),
  fc.record({ do: fc.constant("remove" as const), part }),
  fc.record({ do: fc.constant("read" as const), part, maxBytes: fc.integer({ min: 1, max: 900 }) }),
  fc.record({ do: fc.constant("reopen" as const) }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: plainStep },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("fail" as const),
      statement: fc.constantFrom("BEGIN", "DELETE", "INSERT", "UPDATE", "COMMIT"),
      code: fc.constantFrom(10, 13, 11, 8),
      step: plainStep,
    }),
  },
);
const limits: fc.Arbitrary<Limits> = fc.record({
  maxPackets: fc.constantFrom(5, 100, 10_000),
  maxBytes: fc.constantFrom(150, 3000, 10_000_000),
  overflow: fc.constantFrom("reject" as const, "drop-oldest" as const),
});

let payloadSeed = 0;
function payloadOf(size: number): Uint8Array {
  payloadSeed++;
  return Uint8Array.from({ length: size }, (_, i) => (payloadSeed * 31 + i * 7) & 0xff);
}

Deno.test("any sequence of operations agrees with an array", async () => {
  await fc.assert(
    fc.asyncProperty(
      limits,
      fc.array(step, { minLength: 1, maxLength: 25 }),
      async (limits, steps) => {
        using dir = new TempDir();
        const driver = new FaultDriver();
        const run = await Run.open(dir.file(), driver, limits);
        try {
          for (const one of steps) {
            await run.step(one);
            await run.compare();
          }
        } finally {
          driver.heal();
          await run.queue.close();
        }
      },
    ),
    { numRuns: 60 },
  );
});

class Run {
  readonly model: Model = { packets: [], lastId: 0, droppedPackets: 0, droppedBytes: 0 };
  faulty = false;

  private constructor(
    readonly path: string,
    readonly driver: FaultDriver,
    readonly limits: Limits,
    public queue: OutboundQueue,
  ) {}

  static async open(path: string, driver: FaultDriver, limits: Limits): Promise<Run> {
    const queue = await OutboundQueue.open(path, { ...limits, driver });
    return new Run(path, driver, limits, queue);
  }

  idAt(part: number): number {
    const { packets, lastId } = this.model;
    const first = packets[0]?.id ?? lastId + 1;
    return Math.max(0, first - 1 + Math.floor(part * (lastId - first + 1)));
  }

  async step(step: Step): Promise<void> {
    switch (step.do) {
      case "enqueue":
        return await this.enqueueEach(step.sizes);
      case "enqueueMany": {
        const payloads = step.sizes.map(payloadOf);
        const before = this.model.lastId;
        const [outcome] = await Promise.allSettled([this.queue.enqueueMany(payloads)]);
        this.judge([payloads], [
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
        const removal = this.queue.removeThrough(id).then(() => true, refusedByFile);
        const enqueues = this.enqueueEach(step.sizes, async () => {
          if (await removal) this.forget(id);
        });
        await Promise.all([removal, enqueues]);
        return;
      }
      case "remove": {
        const id = this.idAt(step.part);
        if (await this.queue.removeThrough(id).then(() => true, refusedByFile)) this.forget(id);
        return;
      }
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
        // From the file it may be fewer, never none and never others.
        assert.deepEqual(
          got,
          expected.slice(0, Math.max(got.length, Math.min(16, expected.length))),
        );
        return;
      }
      case "reopen":
        await this.queue.close();
        this.queue = await OutboundQueue.open(this.path, {
          ...this.limits,
          driver: this.driver,
        });
        return;
      case "fail": {
        let failures = 0;
        this.faulty = true;
        this.driver.fault = (sql) => {
          if (!sql.startsWith(step.statement) || failures === 3) return undefined;
          failures++;
          return new SqliteError(step.code, "injected");
        };
        if (step.step.do !== "reopen") await this.step(step.step);
        this.driver.heal();
        this.faulty = false;
        return;
      }
    }
  }

  async enqueueEach(sizes: readonly number[], first?: () => Promise<void>): Promise<void> {
    const payloads = sizes.map(payloadOf);
    const outcomes = await Promise.allSettled(payloads.map((p) => this.queue.enqueue(p)));
    await first?.();
    this.judge(payloads.map((p) => [p]), outcomes);
  }

  /** What was stored goes into the model; what was refused must have been refused rightly. */
  judge(
    units: readonly (readonly Uint8Array[])[],
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
      for (const payload of payloads) this.model.packets.push({ id: ++this.model.lastId, payload });
    }
    if (this.limits.overflow === "drop-oldest") this.drop();
  }

  /**
   * Which units are refused when all are handed over in one tick: first by what
   * already waits in memory, then, in order, by what the file holds.
   */
  predictRefusals(units: readonly (readonly Uint8Array[])[]): boolean[] {
    const { maxPackets, maxBytes, overflow } = this.limits;
    const fits = (packets: number, bytes: number) => packets <= maxPackets && bytes <= maxBytes;
    let waitingPackets = 0, waitingBytes = 0;
    let heldPackets = this.model.packets.length;
    let heldBytes = sum(this.model.packets.map((p) => p.payload));
    return units.map((payloads) => {
      const packets = payloads.length, bytes = sum(payloads);
      if (!fits(waitingPackets + packets, waitingBytes + bytes)) return true;
      waitingPackets += packets;
      waitingBytes += bytes;
      if (overflow === "drop-oldest") return false;
      if (!fits(heldPackets + packets, heldBytes + bytes)) return true;
      heldPackets += packets;
      heldBytes += bytes;
      return false;
    });
  }

  drop(): void {
    const { maxPackets, maxBytes } = this.limits;
    let bytes = sum(this.model.packets.map((p) => p.payload));
    while (this.model.packets.length > maxPackets || bytes > maxBytes) {
      const oldest = this.model.packets.shift();
      assert(oldest);
      bytes -= oldest.payload.length;
      this.model.droppedPackets++;
      this.model.droppedBytes += oldest.payload.length;
    }
  }

  forget(id: number): void {
    this.model.packets = this.model.packets.filter((p) => p.id > id);
  }

  async compare(): Promise<void> {
    const { packets, lastId } = this.model;
    const stats = this.queue.stats();
    assert.equal(this.queue.lastId, lastId);
    assert.equal(this.queue.removedThroughId, (packets[0]?.id ?? lastId + 1) - 1);
    assert.equal(stats.packets, packets.length);
    assert.equal(stats.bytes, sum(packets.map((p) => p.payload)));
    assert.equal(stats.waitingPackets, 0);
    assert.equal(stats.waitingBytes, 0);
    assert.equal(stats.droppedPackets, this.model.droppedPackets);
    assert.equal(stats.droppedBytes, this.model.droppedBytes);
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
  }
}

function refusedByFile(error: unknown): boolean {
  assert(error instanceof QueueFileError, String(error));
  return false;
}

function sum(payloads: readonly Uint8Array[]): number {
  return payloads.reduce((total, { length }) => total + length, 0);
}

function equal(a: Uint8Array, b: Uint8Array | undefined): boolean {
  return a.length === b?.length && a.every((byte, i) => byte === b[i]);
}
