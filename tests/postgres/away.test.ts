/** What waits in a program's memory while the database does not answer; without a server. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { QueueFullError } from "../../src/base/errors.ts";
import type { Database } from "../../src/postgres/database.ts";
import { PostgresStore } from "../../src/postgres/postgres_store.ts";
import { STATE } from "../../src/postgres/sql/shared.ts";
import { type QueueOptions, resolveQueueOptions } from "../../src/queue/options.ts";
import type { QueuePlace } from "../../src/queue/place.ts";
import { type OutboundQueue, queueAt } from "../../src/queue/queue.ts";
import { within } from "../support/until.ts";

/** A database that stores packets once it is back. */
class AwayDatabase {
  readonly clock = systemClock;
  /** How many packets each commit asked for. */
  readonly asked: number[] = [];
  /** What each edit asked for. */
  readonly edits: unknown[] = [];
  #back = Promise.withResolvers<void>();
  #first = Promise.withResolvers<void>();
  #packets = 0;

  /** A first question is on its way. */
  get isAsked(): Promise<void> {
    return this.#first.promise;
  }

  comesBack(): void {
    this.#back.resolve();
  }

  async ask(text: string, args: readonly unknown[]) {
    const answer = (row: Record<string, unknown>) => ({ rows: [row], unreplicated: false });
    if (text.includes("sendq.version")) return answer({ version: 1 });
    if (text.includes("sendq.state")) return answer({ state: this.#state() });
    if (text.includes("sendq.edit")) this.edits.push(args.at(-1));
    if (!text.includes("sendq.commit")) return answer({});
    const packets: number[] = JSON.parse(String(args[15]).replace("{", "[").replace("}", "]"));
    this.asked.push(packets.length);
    this.#first.resolve();
    await this.#back.promise;
    const first = this.#packets + 1;
    this.#packets += packets.reduce((sum, n) => sum + n, 0);
    return answer({ answer: { counted: true, first, state: this.#state() } });
  }

  close(): void {}

  #state() {
    const packets = this.#packets;
    const state: Record<string, number> = { id: 1, version: packets + 1, packets, lastId: packets };
    return `{${Object.keys(STATE).map((name) => state[name] ?? 0).join(",")}}`;
  }
}

async function open(database: AwayDatabase, options: QueueOptions): Promise<OutboundQueue> {
  const store = new PostgresStore({
    clock: systemClock,
    ...{ database: database as unknown as Database, name: "outbox", queueId: 1 },
    ...{ path: "postgres://db/packets/outbox", durability: "machine-loss", lossTimeoutMs: 0 },
  });
  const place = {
    ...{ store, lockPath: undefined, survives: "", ringer: { ring() {}, flush() {} } },
    misplaced: () => undefined,
    // A test that has failed ends, too.
    closing: () => database.comesBack(),
  } as unknown as QueuePlace;
  return await queueAt(place, resolveQueueOptions(options));
}

/** What became of each: an id, a limit, or nothing yet. */
function outcomesOf(enqueues: readonly Promise<number>[]): (number | string | undefined)[] {
  const outcomes: (number | string | undefined)[] = enqueues.map(() => undefined);
  for (const [i, one] of enqueues.entries()) {
    one.then((id) => outcomes[i] = id, (error) => {
      assert(error instanceof QueueFullError, String(error));
      outcomes[i] = `${error.limit} = ${error.limitValue}`;
    });
  }
  return outcomes;
}

const enqueueMore = (queue: OutboundQueue, packets: number, packet = "x") =>
  Array.from({ length: packets }, () => queue.enqueue(packet));

Deno.test("away, reject: what the queue may hold waits, and more is refused at once", async () => {
  const database = new AwayDatabase();
  await using queue = await open(database, { maxPackets: 100, maxBytes: 150 });
  const first = queue.enqueue("x");
  await within("a question", database.isAsked);
  const waiting = enqueueMore(queue, 99);
  await assert.rejects(queue.enqueue("x"), (error) => {
    assert(error instanceof QueueFullError);
    assert.equal(error.limit, "maxPackets");
    return true;
  });
  const { waitingPackets, waitingBytes } = queue.stats();
  assert.deepEqual([waitingPackets, waitingBytes], [100, 100]);
  database.comesBack();
  const ids = await within("all are stored", Promise.all([first, ...waiting]));
  assert.deepEqual(ids, Array.from({ length: 100 }, (_, i) => i + 1));
  assert.deepEqual(database.asked, [1, 99]);
});

Deno.test("away, reject: bytes count as packets do", async () => {
  const database = new AwayDatabase();
  await using queue = await open(database, { maxBytes: 50 });
  const first = queue.enqueue("x".repeat(10));
  await within("a question", database.isAsked);
  const outcomes = outcomesOf(enqueueMore(queue, 6, "x".repeat(10)));
  database.comesBack();
  assert.equal(await within("it is stored", first), 1);
  assert.equal(await within("goes on", queue.enqueue("x")), 6);
  assert.deepEqual(outcomes, [2, 3, 4, 5, "maxBytes = 50", "maxBytes = 50"]);
});

Deno.test("away, drop-oldest: the newest wait, and the oldest are told that they are not stored", async () => {
  const database = new AwayDatabase();
  const options = { maxPackets: 10, overflow: "drop-oldest" } as const;
  await using queue = await open(database, options);
  const first = queue.enqueue("x");
  await within("a question", database.isAsked);
  // What the queue may hold, and a transaction, the one that is on its way included.
  const outcomes = outcomesOf(enqueueMore(queue, 10 + 4096 + 20));
  assert.equal(queue.stats().waitingPackets, 10 + 4096);
  database.comesBack();
  assert.equal(await within("it is stored", first), 1);
  const last = await within("all are stored", queue.enqueue("x"));
  assert.equal(last, 1 + outcomes.length - 21 + 1);
  const refused = Array(21).fill("maxPackets = 10");
  const stored = Array.from({ length: outcomes.length - 21 }, (_, i) => i + 2);
  assert.deepEqual(outcomes, [...refused, ...stored]);
});

Deno.test("away, drop-oldest: bytes count too, and what is on its way stays", async () => {
  const database = new AwayDatabase();
  const options = { maxBytes: 1024 * 1024, overflow: "drop-oldest" } as const;
  await using queue = await open(database, options);
  const packet = "x".repeat(512 * 1024);
  const outcomes = outcomesOf(enqueueMore(queue, 1, packet));
  await within("a question", database.isAsked);
  const later = outcomesOf(enqueueMore(queue, 5, packet));
  assert.equal(queue.stats().waitingBytes, (1024 + 512) * 1024);
  database.comesBack();
  assert.equal(await within("goes on", queue.enqueue("x")), 3);
  const full = `maxBytes = ${1024 * 1024}`;
  assert.deepEqual([...outcomes, ...later], [1, full, full, full, full, 2]);
});

Deno.test("away, wait: each waits, and whoever withdraws leaves nothing behind", async () => {
  const database = new AwayDatabase();
  await using queue = await open(database, { maxPackets: 40, overflow: "wait" });
  const first = queue.enqueue("x");
  await within("a question", database.isAsked);
  const controller = new AbortController();
  const { signal } = controller;
  const withdrawn = Array.from({ length: 50 }, () => queue.enqueue("x", { signal }));
  const waiting = enqueueMore(queue, 30);
  assert.equal(queue.stats().waitingPackets, 81);
  controller.abort(new Error("enough"));
  for (const one of withdrawn) await assert.rejects(one, /enough/);
  assert.equal(queue.stats().waitingPackets, 31);
  database.comesBack();
  const ids = await within("all are stored", Promise.all([first, ...waiting]));
  assert.deepEqual(ids, Array.from({ length: 31 }, (_, i) => i + 1));
});

Deno.test("an edit asks for what the queue promises, and tells of nothing else", async () => {
  const database = new AwayDatabase();
  await using queue = await open(database, { maxDeadPackets: 5, maxDeadBytes: 600 });
  database.comesBack();
  await queue.enqueue("x");
  // What it answers is no edit's.
  await assert.rejects(queue.removePackets({ firstId: 1, lastId: 1 }));
  assert.deepEqual(database.edits, [{
    ...{ kind: "remove-packets", ranges: [{ firstId: 1, lastId: 1 }], leftMs: null },
    // The queue's own, and not that of a file.
    durability: "machine-loss",
    ...{ fence: null, sentThrough: 0, maxDeadPackets: 5, maxDeadBytes: 600 },
  }]);
});
