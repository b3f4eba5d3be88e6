import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { ClosedError, QueueFileError, QueueFullError } from "../../src/base/errors.ts";
import {
  Committer,
  type CommitterEvents,
  type CommitterOptions,
} from "../../src/queue/commit/committer.ts";
import { PendingEnqueue } from "../../src/queue/commit/pending_enqueues.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { SqliteStore } from "../../src/queue/store/sqlite_store.ts";
import type { PacketCount } from "../../src/queue/store/types.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { within } from "../support/until.ts";
import { settle } from "./helpers.ts";

/** A committer on a file whose transactions are seen, and held up where a test wants that. */
class Bench implements Disposable {
  readonly clock = new ManualClock();
  /** What each transaction was asked for: packets to store, and up to which id to remove. */
  readonly asked: { readonly packets: number[]; readonly removeThrough: number }[] = [];
  readonly told: string[] = [];
  readonly committer: Committer;
  readonly store: SqliteStore;
  /** What the sender was given, of a range that is asked for. */
  handedOut: CommitterEvents["handedOut"] = () => undefined;
  /** What the next transactions fail of. */
  faults: Error[] = [];
  /** The next transactions wait for this. */
  gate: Promise<void> = Promise.resolve();
  readonly #dir = new TempDir();

  constructor(options: Partial<CommitterOptions> = {}) {
    const { clock, told } = this;
    const store = SqliteStore.open(this.#dir.queue, {
      durability: "process-crash",
      driver: nodeSqlite,
    });
    const commit = store.commit.bind(store);
    const asynchronous = Object.assign(store, {
      commit: async (request: Parameters<typeof commit>[0]) => {
        this.asked.push({
          packets: request.units.map(({ packets }) => packets),
          removeThrough: request.removeThrough,
        });
        await this.gate;
        const fault = this.faults.shift();
        if (fault !== undefined) throw fault;
        return commit(request);
      },
    });
    this.store = store;
    this.committer = new Committer(
      asynchronous,
      {
        ...{ maxPackets: 1000, maxBytes: 1e6, maxDeadPackets: 1000, maxDeadBytes: 1e6 },
        ...{ overflow: "reject", commitIntervalMs: 0, busyTimeoutMs: 100, clock },
        ...options,
      },
      { state: store.state(), dataVersion: store.dataVersion() },
      {
        moment: () => ({ wallMs: clock.wallMs(), clockOffsetMs: 0, knownOffsetMs: 0 }),
        isTimeToBeKept: () => false,
        handedOut: (...range) => this.handedOut(...range),
        knows: () => {},
        committed: ({ state }) => told.push(`committed ${state.lastId}`),
        edited: ({ kind }) => told.push(`edited ${kind}`),
        adopted: () => told.push("adopted"),
        grown: () => told.push("grown"),
        refused: () => {},
      },
    );
  }

  /** Stores packets of a byte each. */
  enqueue(packets: number, signal?: AbortSignal): Promise<number> {
    const sizes = new Uint32Array(packets).fill(1);
    const unit = new PendingEnqueue(new Uint8Array(packets), 0, packets, Infinity, sizes);
    return this.committer.store(unit, signal);
  }

  [Symbol.dispose](): void {
    this.store.close();
    this.#dir[Symbol.dispose]();
  }
}

const BUSY = new QueueFileError("busy", "outbox.db", "Somebody else has the file.");
const BROKEN = new QueueFileError("io", "outbox.db", "The disk is broken.");

Deno.test("commits begin an interval apart, and the first after a pause at once", async () => {
  using bench = new Bench({ commitIntervalMs: 50 });
  await bench.enqueue(1);
  const shared = [bench.enqueue(2), bench.committer.removeThrough(1), bench.enqueue(3)];
  bench.clock.advance(49);
  await settle();
  assert.deepEqual(bench.asked.map(({ packets }) => packets), [[1]]);
  bench.clock.advance(1);
  await Promise.all(shared);
  assert.deepEqual(bench.asked.slice(1), [{ packets: [2, 3], removeThrough: 1 }]);
  bench.clock.advance(50);
  await bench.enqueue(1);
  assert.equal(bench.clock.timers.size, 0);
  await bench.committer.close();
});

Deno.test("nothing waits for its time that is enough for a commit, is an edit, or comes before the end", async () => {
  using bench = new Bench({ commitIntervalMs: 50, maxPackets: 100_000 });
  await bench.enqueue(1);
  const early = bench.enqueue(1);
  await Promise.all([early, bench.enqueue(255)]);
  const edit = { kind: "remove-packets", range: { firstId: 1, lastId: 1 } } as const;
  const beside = bench.enqueue(1);
  await Promise.all([bench.committer.edit(edit), beside]);
  const last = bench.enqueue(1);
  await bench.committer.close();
  assert.equal(await last, 259);
  assert.deepEqual(bench.asked.map(({ packets }) => packets), [[1], [1, 255], [1], [1]]);
  assert.equal(bench.clock.timers.size, 0);
});

Deno.test("a packet that waits for its time can be withdrawn, and what fills nothing waits on", async () => {
  using bench = new Bench({ commitIntervalMs: 50 });
  await bench.enqueue(1);
  const giveUp = new AbortController();
  const withdrawn = bench.enqueue(1, giveUp.signal);
  giveUp.abort(new Error("enough"));
  await assert.rejects(withdrawn, /enough/);
  const kept = bench.enqueue(2);
  bench.clock.advance(50);
  assert.equal(await kept, 2);
  assert.deepEqual(bench.asked.map(({ packets }) => packets), [[1], [2]]);
  await bench.committer.close();
});

Deno.test("a small queue fills a commit sooner, and what waits behind it does not wait for its time", async () => {
  for (const bounds of [{ maxPackets: 5 }, { maxBytes: 5 }]) {
    using bench = new Bench({ commitIntervalMs: 50, overflow: "drop-oldest", ...bounds });
    await bench.enqueue(1);
    const burst = Array.from({ length: 12 }, () => bench.enqueue(1));
    await Promise.all(burst.slice(0, 10));
    assert.deepEqual(bench.asked.map(({ packets }) => packets.length), [1, 5, 5]);
    bench.clock.advance(50);
    await Promise.all(burst);
    await bench.committer.close();
  }
});

Deno.test("what a commit had no room for of a removal does not wait for its time", async () => {
  using bench = new Bench({ commitIntervalMs: 50 });
  await bench.enqueue(35);
  bench.handedOut = (afterId, wantedId) => {
    const throughId = Math.min(wantedId, afterId + 10);
    return { afterId, throughId, packets: throughId - afterId, bytes: throughId - afterId };
  };
  const removed = bench.committer.removeThrough(35);
  await settle();
  assert.equal(bench.asked.length, 1);
  bench.clock.advance(50);
  await removed;
  assert.deepEqual(bench.asked.slice(1).map((asked) => asked.removeThrough), [10, 20, 30, 35]);
  await bench.committer.close();
});

Deno.test("whoever comes while a transaction is under way shares the next one", async () => {
  using bench = new Bench();
  const { promise, resolve } = Promise.withResolvers<void>();
  bench.gate = promise;
  const first = bench.enqueue(1);
  await settle();
  const others = [bench.enqueue(2), bench.enqueue(3)];
  const removed = bench.committer.removeThrough(1);
  await settle();
  assert.deepEqual(bench.asked, [{ packets: [1], removeThrough: 0 }]);
  resolve();
  assert.deepEqual(await Promise.all([first, ...others]), [1, 2, 4]);
  await removed;
  // When the removal was asked for, nobody knew of a first packet.
  assert.deepEqual(bench.asked[1], { packets: [2, 3], removeThrough: 0 });
  await bench.committer.removeThrough(3);
  assert.deepEqual(bench.asked[2], { packets: [], removeThrough: 3 });
  assert.equal(bench.committer.state.packets, 3);
  await bench.committer.close();
});

Deno.test("a large removal goes in parts, and is done with the last one; others share its transactions", async () => {
  using bench = new Bench();
  await bench.enqueue(35);
  const limits: PacketCount[] = [];
  // As if ten of them were as many bytes as a part may have.
  bench.handedOut = (afterId, wantedId, enough) => {
    limits.push(enough);
    const throughId = Math.min(wantedId, afterId + 10);
    return { afterId, throughId, packets: throughId - afterId, bytes: throughId - afterId };
  };
  const done: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  bench.gate = promise;
  const removed = bench.committer.removeThrough(25).then(() => done.push("25"));
  const further = bench.committer.removeThrough(15).then(() => done.push("15"));
  await settle();
  const stored = bench.enqueue(1).then((id) => done.push(`stored ${id}`));
  resolve();
  await Promise.all([removed, further, stored]);
  assert.deepEqual(bench.asked.slice(1), [
    { packets: [], removeThrough: 10 },
    { packets: [1], removeThrough: 20 },
    { packets: [], removeThrough: 25 },
  ]);
  assert.deepEqual(done, ["stored 36", "25", "15"]);
  assert.equal(bench.committer.state.packets, 11);
  const part = { packets: 0, bytes: 4 * 1024 * 1024 };
  assert.deepEqual(limits, [part, { ...part, packets: 1 }, part]);

  // A part that fails takes nobody along who has been served, and is asked for again.
  bench.handedOut = (afterId, throughId) => ({ afterId, throughId, packets: 0, bytes: 0 });
  await assert.rejects(bench.committer.removeThrough(36), { reason: "corrupt" });
  bench.handedOut = () => undefined;
  await bench.committer.removeThrough(36);
  assert.equal(bench.committer.state.packets, 0);
  await bench.committer.close();
});

Deno.test("with packets goes as much of a removal as makes their room, and on a full disk all of it", async () => {
  using bench = new Bench({ maxPackets: 30, maxBytes: 5e6 });
  const limits: PacketCount[] = [];
  bench.handedOut = (_afterId, _throughId, enough) => void limits.push(enough);
  await bench.enqueue(28);
  const removed = bench.committer.removeThrough(20);
  await Promise.all([bench.enqueue(9), removed]);
  // It is empty but for 17, and takes 13: the next transaction has to know of 20 that go.
  bench.committer.bounds = { maxPackets: 10, maxBytes: 5e6 };
  await Promise.all([bench.enqueue(3), bench.committer.removeThrough(37)]);
  const bytes = 4 * 1024 * 1024;
  assert.deepEqual(limits, [{ packets: 9, bytes }, { packets: 10, bytes }]);
  limits.length = 0;
  bench.faults = [new QueueFileError("disk-full", "outbox.db", "The disk is full.")];
  await Promise.all([bench.enqueue(1), bench.committer.removeThrough(39)]);
  assert.deepEqual(limits, [{ packets: 1, bytes }, { packets: Infinity, bytes: Infinity }]);
  await bench.committer.close();
});

Deno.test("the queue is told before those who wait", async () => {
  using bench = new Bench();
  await bench.enqueue(2).then(() => bench.told.push("resolved"));
  assert.deepEqual(bench.told, ["committed 2", "grown", "resolved"]);
  await bench.committer.close();
});

Deno.test("ids go by the order of the calls, and what is in the file is what was answered", async () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant("enqueue" as const), packets: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ do: fc.constant("remove" as const), percent: fc.integer({ min: 0, max: 100 }) }),
    fc.record({ do: fc.constant("settle" as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      using bench = new Bench({ maxPackets: 15 });
      const answers: Promise<[number, number] | QueueFullError>[] = [];
      let removedThrough = 0;
      for (const step of steps) {
        if (step.do === "settle") await settle();
        if (step.do === "enqueue") {
          answers.push(
            bench.enqueue(step.packets).then(
              (firstId): [number, number] => [firstId, step.packets],
              (error) => {
                assert(error instanceof QueueFullError);
                return error;
              },
            ),
          );
        }
        if (step.do === "remove") {
          const throughId = Math.floor(step.percent / 100 * bench.committer.state.lastId);
          removedThrough = Math.max(removedThrough, throughId);
          bench.committer.removeThrough(throughId);
        }
      }
      await bench.committer.close();
      let nextId = 1;
      for (const answer of await within("every answer", Promise.all(answers))) {
        if (answer instanceof QueueFullError) continue;
        const [firstId, packets] = answer;
        assert.equal(firstId, nextId);
        nextId += packets;
      }
      const { lastId, packets } = bench.store.state();
      assert.deepEqual([lastId, packets], [nextId - 1, nextId - 1 - removedThrough]);
      // A transaction that changed nothing wrote no time.
      const { writtenAtMs: _, ...known } = bench.committer.state;
      const { writtenAtMs: __, ...stored } = bench.store.state();
      assert.deepEqual(known, stored);
      assert.deepEqual([bench.committer.waitingPackets, bench.committer.waitingBytes], [0, 0]);
    }),
    { numRuns: 30 },
  );
});

Deno.test("a busy file is tried again, and so long only; another fault is told at once", async () => {
  using bench = new Bench();
  bench.faults = [BUSY, BUSY];
  const stored = bench.enqueue(1);
  await settle();
  while (bench.clock.nextInMs !== undefined) {
    bench.clock.advance(bench.clock.nextInMs);
    await settle();
  }
  assert.equal(await within("the packet is stored", stored), 1);
  assert.equal(bench.asked.length, 3);

  bench.faults = Array(1000).fill(BUSY);
  const refused = assert.rejects(bench.enqueue(1), BUSY);
  const startMs = bench.clock.nowMs();
  await settle();
  while (bench.clock.nextInMs !== undefined) {
    bench.clock.advance(bench.clock.nextInMs);
    await settle();
  }
  await within("it gives up", refused);
  assert.equal(bench.clock.nowMs() - startMs, 100);

  bench.faults = [BROKEN];
  await assert.rejects(bench.enqueue(1), BROKEN);
  assert.equal(bench.committer.waitingPackets, 0);
  assert.equal(await bench.enqueue(1), 2, "and goes on");
  await bench.committer.close();
});

Deno.test("without room: the first waits and so do those behind it; room and a withdrawal let on", async () => {
  using bench = new Bench({ maxPackets: 4, overflow: "wait" });
  await bench.enqueue(3);
  const controller = new AbortController();
  const large = assert.rejects(bench.enqueue(3, controller.signal), /enough/);
  const small = bench.enqueue(1);
  await settle();
  assert.deepEqual([bench.store.state().packets, bench.committer.waitingPackets], [3, 4]);
  controller.abort(new Error("enough"));
  await large;
  assert.equal(await within("the small one fits", small), 4);
  const next = bench.enqueue(2);
  await settle();
  await bench.committer.removeThrough(2);
  assert.equal(await within("there is room", next), 5);

  const never = assert.rejects(bench.enqueue(2), ClosedError);
  await settle();
  await bench.committer.close();
  await within("it is refused", never);
  assert.equal(bench.store.state().packets, 4);
  await assert.rejects(
    bench.committer.edit({ kind: "remove-packets", range: { firstId: 1, lastId: 9 } }),
    ClosedError,
  );
});

Deno.test("changes that wait together leave the loop a turn between them", async () => {
  using bench = new Bench();
  await bench.enqueue(9);
  let turns = 0;
  const turning = { isOver: false };
  const turn = () => {
    turns++;
    if (!turning.isOver) setImmediate(turn);
  };
  setImmediate(turn);
  const turnsAtEnd = await Promise.all(Array.from({ length: 5 }, async (_, i) => {
    const range = { firstId: i + 1, lastId: i + 1 };
    await bench.committer.edit({ kind: "remove-packets", range });
    return turns;
  }));
  turning.isOver = true;
  assert.equal(new Set(turnsAtEnd).size, 5, turnsAtEnd.join());
  await bench.committer.close();
});

Deno.test("a limit that was changed is told as it is now", async () => {
  using bench = new Bench();
  bench.committer.bounds = { maxPackets: 2, maxBytes: 1e6 };
  await bench.enqueue(2);
  await assert.rejects(bench.enqueue(1), (error) => {
    assert(error instanceof QueueFullError);
    assert.deepEqual([error.limit, error.limitValue], ["maxPackets", 2]);
    return true;
  });
  await bench.committer.close();
});

Deno.test("what was sent is noted with the next commit, or at the close", async () => {
  using bench = new Bench();
  await bench.enqueue(5);
  bench.committer.rememberSent(3);
  assert.equal(bench.store.state().sentThrough, 0);
  await bench.enqueue(1);
  assert.equal(bench.store.state().sentThrough, 3);
  bench.committer.rememberSent(5);
  bench.committer.rememberSent(4);
  await bench.committer.close();
  assert.equal(bench.store.state().sentThrough, 5);
});

/** Commits, or one of so many, take so long, in this thread or, as far as the committer knows, in another. */
function takes(bench: Bench, ms: number, where: "here" | "elsewhere", every = 1): void {
  const commit = SqliteStore.prototype.commit.bind(bench.store);
  let commits = 0;
  const slow = (request: Parameters<typeof commit>[0]) => {
    if (commits++ % every === 0) bench.clock.advance(ms);
    return commit(request);
  };
  const later = (request: Parameters<typeof commit>[0]) => Promise.resolve(slow(request));
  Object.assign(bench.store, { commit: where === "here" ? slow : later });
}

/** How many turns of the loop pass before each of some packets is committed. */
async function turnsOf(bench: Bench, packets: number): Promise<number[]> {
  let turns = 0;
  bench.clock.defer = (callback) => {
    turns++;
    setImmediate(callback);
  };
  const all: number[] = [];
  for (let i = 0; i < packets; i++) {
    await bench.enqueue(1);
    all.push(turns);
    turns = 0;
  }
  return all;
}

Deno.test("commits that keep this thread's loop busy leave its sockets 61 turns now and then", async () => {
  using bench = new Bench();
  takes(bench, 40, "here");
  assert.deepEqual(await turnsOf(bench, 9), [1, 1, 1, 61, 1, 1, 61, 1, 1]);
  await bench.committer.close();
});

Deno.test("commits leave no pause where the runtime looks after its sockets in time", async () => {
  using bench = new Bench();
  takes(bench, 6, "here", 4);
  assert.deepEqual(new Set(await turnsOf(bench, 200)), new Set([1]));
  takes(bench, 40, "elsewhere");
  assert.deepEqual(new Set(await turnsOf(bench, 20)), new Set([1]));
  await bench.committer.close();
});
