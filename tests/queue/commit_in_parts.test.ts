import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import {
  commitInParts,
  type CommitInPartsOptions,
  type Job,
  type Removal,
} from "../../src/queue/commit/commit_in_parts.ts";
import { PendingEnqueue } from "../../src/queue/commit/pending_enqueues.ts";

const FULL = new QueueFileError("disk-full", "outbox.db", "The disk is full.");
const BROKEN = new QueueFileError("io", "outbox.db", "The disk is broken.");

function unitOf(bytes: number): PendingEnqueue {
  return new PendingEnqueue(new Uint8Array(0), 0, bytes, Infinity);
}

/** A removal gives back no more, unless all of it is asked for. */
const PART_BYTES = 10;

/** A disk with so much room, of which a removal gives some back. */
class Disk {
  readonly stored: number[] = [];
  readonly failed: number[] = [];
  readonly removals: string[] = [];
  attempts = 0;
  roomBytes: number;
  readonly #removalBytes: number;
  readonly #units: readonly PendingEnqueue[];

  constructor(units: readonly PendingEnqueue[], roomBytes: number, removalBytes: number) {
    this.#units = units;
    this.roomBytes = roomBytes;
    this.#removalBytes = removalBytes;
  }

  options(attempt: (job: Job) => Promise<PendingEnqueue[]>): CommitInPartsOptions {
    return {
      attempt: (job) => {
        // Whoever commits leaves out a job of which nothing is left.
        if (job.units.length > 0 || job.removal !== undefined) this.attempts++;
        return attempt(job);
      },
      fail: ({ units, removal }) => {
        this.failed.push(...units.map((unit) => this.#units.indexOf(unit)));
        if (removal !== undefined) this.removals.push("failed");
      },
      removedThrough: () => 0,
      makeRoom: () => Promise.resolve(),
      nextTick: () => Promise.resolve(),
    };
  }

  /** One transaction: all of it, or nothing; but of a removal perhaps a part. */
  commit({ units, removal, removesAll = false }: Job): Promise<PendingEnqueue[]> {
    const removed = Math.min(this.#removalBytes, removesAll ? Infinity : PART_BYTES);
    const room = this.roomBytes + (removal === undefined ? 0 : removed);
    const bytes = units.reduce((sum, unit) => sum + unit.bytes, 0);
    if (bytes > room) return Promise.reject(FULL);
    this.roomBytes = room - bytes;
    this.stored.push(...units.map((unit) => this.#units.indexOf(unit)));
    if (removal !== undefined) this.removals.push("done");
    return Promise.resolve([]);
  }
}

const removalOf = (): Removal => ({ throughId: 1, waiters: [] });

Deno.test("on a full disk: exactly what fits, in its order, and the removal first", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 30 }),
    fc.integer({ min: 0, max: 200 }),
    fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }),
    async (sizes, roomBytes, removalBytes) => {
      const units = sizes.map(unitOf);
      const disk = new Disk(units, roomBytes, removalBytes ?? 0);
      const removal = removalBytes === undefined ? undefined : removalOf();
      const unplaced = await commitInParts(
        { units: [...units], removal },
        disk.options((job) => disk.commit(job)),
      );

      let leftBytes = roomBytes + (removalBytes ?? 0);
      const fits = sizes.map((size) => {
        if (size > leftBytes) return false;
        leftBytes -= size;
        return true;
      });
      assert.deepEqual(unplaced, []);
      assert.deepEqual(disk.stored, [...sizes.keys()].filter((i) => fits[i]));
      assert.deepEqual(
        disk.failed.toSorted((a, b) => a - b),
        [...sizes.keys()].filter((i) => !fits[i]),
      );
      assert.deepEqual(disk.removals, removal === undefined ? [] : ["done"]);
    },
  ));
});

Deno.test("halving needs few transactions: what is as large as what failed is not tried", async () => {
  const units = Array.from({ length: 1024 }, () => unitOf(10));
  const disk = new Disk(units, 0, 0);
  await commitInParts(
    { units: [...units], removal: undefined },
    disk.options((j) => disk.commit(j)),
  );
  assert.equal(disk.failed.length, 1024);
  assert.equal(disk.attempts, 11, "1024, 512, … 1");
});

Deno.test("what is not about room fails whole, at once", async () => {
  const units = [1, 2, 3].map(unitOf);
  const disk = new Disk(units, 100, 0);
  const options = disk.options(() => Promise.reject(BROKEN));
  await commitInParts({ units: [...units], removal: removalOf() }, options);
  assert.deepEqual([disk.failed, disk.removals, disk.attempts], [[0, 1, 2], ["failed"], 1]);
});

Deno.test("once a unit waits for room in the queue, nobody behind it goes first", async () => {
  const units = [30, 1, 1, 1].map(unitOf);
  const disk = new Disk(units, 25, 0);
  // The disk takes two at a time; the queue has room for one packet.
  const options = disk.options(async (job) => {
    if (job.units.length > 2) throw FULL;
    const [first, ...rest] = job.units;
    if (disk.stored.length > 0 || first === undefined) return job.units;
    await disk.commit({ units: [first], removal: undefined });
    return rest;
  });
  disk.roomBytes = 1000;
  const unplaced = await commitInParts({ units: [...units], removal: undefined }, options);
  assert.deepEqual(disk.stored, [0]);
  assert.deepEqual(unplaced, units.slice(1));
  assert.equal(disk.attempts, 2, "what stands behind is not even tried");
});
