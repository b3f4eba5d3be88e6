import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { systemClock } from "../../src/base/clock.ts";
import { ClosedError, QueueFileError } from "../../src/base/errors.ts";
import { packetsOf } from "../../src/base/packet_batch.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SqliteError } from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { Arena } from "../../src/queue/store/batches.ts";
import type { CommitRequest, StoreState } from "../../src/queue/store/contract.ts";
import { SqliteStore } from "../../src/queue/store/sqlite_store.ts";
import type { Overflow, PacketSpan } from "../../src/queue/store/types.ts";
import { WorkerStoreClient } from "../../src/queue/worker/client.ts";
import {
  packCommit,
  packError,
  unpackCommit,
  unpackError,
} from "../../src/queue/worker/messages.ts";
import { bytes, text } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver, SOURCES } from "./helpers.ts";
import { WorkerFaults } from "./threads.ts";

const workerQueue = { commitIn: "worker" } as const;

const turn = () => new Promise<void>((resolve) => systemClock.setTimer(1, resolve));

function request(units: readonly PacketSpan[], more: Partial<CommitRequest> = {}): CommitRequest {
  return {
    removeThrough: 0,
    sentThrough: 0,
    units,
    at: { wallMs: 1000, clockOffsetMs: 0, knownOffsetMs: 0 },
    handedOut: undefined,
    deadLimits: { maxDeadPackets: 1e6, maxDeadBytes: 1e9 },
    maxPackets: 1e6,
    maxBytes: 1e9,
    overflow: "reject",
    ...more,
  };
}

Deno.test("the event loop goes on while the Worker waits for the disk", async () => {
  using dir = new TempDir();
  using faults = new WorkerFaults(dir.queue);
  await using queue = await OutboundQueue.open(dir.queue, workerQueue);
  const order: string[] = [];
  faults.order("COMMIT", "hold");
  const stored = queue.enqueue(bytes("x")).then((id) => order.push(`stored ${id}`));
  for (let i = 1; i <= 5; i++) {
    await turn();
    order.push(`timer ${i}`);
  }
  // Meanwhile others get in line, and what is in memory can be read.
  const next = queue.enqueue(bytes("y")).then((id) => order.push(`stored ${id}`));
  assert.deepEqual(await queue.read(0, 100), []);
  assert.equal(queue.stats().waitingPackets, 2);
  order.push("released");
  faults.heal();
  await Promise.all([stored, next]);
  assert.deepEqual(order, [
    ...["timer 1", "timer 2", "timer 3", "timer 4", "timer 5", "released", "stored 1", "stored 2"],
  ]);
});

Deno.test("a signal that is aborted during a commit still takes its packet out of the line", async () => {
  using dir = new TempDir();
  using faults = new WorkerFaults(dir.queue);
  const options = { ...workerQueue, maxPackets: 2, overflow: "wait" } as const;
  await using queue = await OutboundQueue.open(dir.queue, options);
  await queue.enqueue(bytes("1"));
  const controller = new AbortController();
  faults.order("BEGIN", "hold");
  const two = assert.rejects(
    queue.enqueueMany([bytes("2"), bytes("3")], { signal: controller.signal }),
    /enough/,
  );
  const one = queue.enqueue(bytes("4"));
  await turn(); // The commit is under way.
  controller.abort(new Error("enough"));
  faults.heal();
  await two;
  assert.equal(await one, 2);
  assert.equal(queue.stats().waitingPackets, 0);
});

for (const how of ["throw", "exit"] as const) {
  Deno.test(`a Worker that dies (${how}) rejects what is pending; another takes its place`, async () => {
    using dir = new TempDir();
    using faults = new WorkerFaults(dir.queue);
    const queue = await OutboundQueue.open(dir.queue, workerQueue);
    await queue.enqueueMany([bytes("a"), bytes("b")]);
    const died = (error: unknown) =>
      error instanceof QueueFileError && error.reason === "io" && error.path === dir.queue &&
      error.outcome === "unknown" && /Worker has ended.*may be stored or not/s.test(error.message);
    faults.order("BEGIN", how);
    // Behind a commit that waits for its answer: more packets, a read, a removal.
    const outcomes = await Promise.allSettled([
      queue.enqueue(bytes("c")),
      sendingSideOf(queue).removeThrough(1),
      turn().then(() => queue.enqueue(bytes("d"))),
      turn().then(() => queue.deadLetters(0, 100)),
    ]);
    for (const [i, outcome] of outcomes.slice(how === "exit" ? 0 : 2).entries()) {
      assert(outcome.status === "rejected" && died(outcome.reason), `${i}: ${outcome.status}`);
    }
    assert.equal(queue.stats().waitingPackets, 0);
    faults.heal();
    await sendingSideOf(queue).pollOtherProcesses();
    const { lastId } = queue;
    assert.equal(await queue.enqueue(bytes("e")), lastId + 1);
    await queue.close();
    await using again = await OutboundQueue.open(dir.queue);
    assert.equal(again.lastId, lastId + 1);
  });
}

Deno.test("a Worker that dies while nothing is under way: the next call says so, then it goes on", async () => {
  using dir = new TempDir();
  using faults = new WorkerFaults(dir.queue);
  await using queue = await OutboundQueue.open(dir.queue, workerQueue);
  faults.order("BEGIN IMMEDIATE", "throw");
  assert.equal(await queue.enqueue(bytes("a")), 1);
  await assert.rejects(sendingSideOf(queue).pollOtherProcesses(), /Worker has ended/);
  faults.heal();
  // What others store meanwhile is not overlooked, though the new Worker knows of no change.
  await using other = await OutboundQueue.open(dir.queue);
  await other.enqueue(bytes("b"));
  await sendingSideOf(queue).pollOtherProcesses();
  assert.equal(queue.lastId, 2);
  assert.equal(await queue.enqueue(bytes("c")), 3);
});

Deno.test("a Worker that cannot open the file again: each call says so, until it can", async () => {
  using dir = new TempDir();
  using faults = new WorkerFaults(dir.queue);
  await using queue = await OutboundQueue.open(dir.queue, workerQueue);
  faults.order("BEGIN IMMEDIATE", "throw");
  await queue.enqueue(bytes("a"));
  await assert.rejects(sendingSideOf(queue).pollOtherProcesses(), /Worker has ended/);
  faults.order("PRAGMA user_version", 10, 1e6);
  for (let i = 0; i < 2; i++) {
    await assert.rejects(
      Promise.all([queue.enqueue(bytes("x")), sendingSideOf(queue).pollOtherProcesses()]),
      {
        reason: "io",
      },
    );
  }
  faults.heal();
  await assert.doesNotReject(async () => {
    // The last failure may not have been told yet.
    await sendingSideOf(queue).pollOtherProcesses().catch(() =>
      sendingSideOf(queue).pollOtherProcesses()
    );
  });
  assert.equal(await queue.enqueue(bytes("b")), 2);
});

Deno.test("close waits for the commit under way, then nothing is answered any more", async () => {
  using dir = new TempDir();
  using faults = new WorkerFaults(dir.queue);
  const store = await WorkerStoreClient.open(dir.queue, "power-loss");
  const arena = new Arena();
  faults.order("COMMIT", "hold");
  const commit = store.commit(request([arena.copy(bytes("x"), Infinity)]));
  const closing = store.close();
  faults.heal();
  assert.equal((await commit).state.lastId, 1);
  await closing;
  await assert.rejects(store.state(), ClosedError);
  await assert.rejects(store.commit(request([])), ClosedError);
  await store.close();

  const queue = await OutboundQueue.open(dir.queue, workerQueue);
  faults.order("COMMIT", "hold");
  const stored = queue.enqueue(bytes("y"));
  sendingSideOf(queue).rememberSent(1);
  await turn();
  const closed = queue.close();
  const polled = sendingSideOf(queue).pollOtherProcesses();
  faults.heal();
  assert.equal(await stored, 2);
  await Promise.all([closed, polled]);
});

Deno.test("answers come in the order of the calls", async () => {
  using dir = new TempDir();
  const store = await WorkerStoreClient.open(dir.queue, "process-crash");
  const arena = new Arena();
  const settled: number[] = [];
  const states: StoreState[] = [];
  const calls = Array.from({ length: 300 }, async (_, i) => {
    if (i % 3 === 0) {
      states.push((await store.commit(request([arena.copy(bytes(`${i}`), Infinity)]))).state);
    } else if (i % 3 === 1) {
      states.push(await store.state());
    } else {
      await assert.rejects(store.read(Number.NaN, i === 2 ? -1 : 0).then(() => assert.fail("x")));
    }
    settled.push(i);
  });
  await Promise.all(calls);
  await store.close();
  // What is made of a rejection takes a few turns more; the others must not mix.
  const plain = settled.filter((i) => i % 3 !== 2);
  assert.deepEqual(plain, plain.toSorted((a, b) => a - b));
  const lastIds = states.map(({ lastId }) => lastId);
  assert.deepEqual(lastIds, Array.from({ length: 200 }, (_, i) => 1 + (i >> 1)));
});

Deno.test("counts never go back while polls and commits cross", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, workerQueue);
  await using other = await OutboundQueue.open(dir.queue);
  const seen: number[] = [];
  sendingSideOf(queue).subscribe(() => seen.push(queue.lastId));
  const ids: number[] = [];
  const note = (id: number) => void ids.push(id);
  for (let i = 0; i < 60; i++) {
    const theirs = other.enqueue(bytes(`their ${i}`)).then(note);
    const mine = queue.enqueue(bytes(`my ${i}`)).then(note);
    const polls = Array.from({ length: 4 }, () => sendingSideOf(queue).pollOtherProcesses());
    await Promise.all([i % 2 === 0 ? theirs : mine, ...polls]);
    await Promise.all([theirs, mine]);
  }
  await sendingSideOf(queue).pollOtherProcesses();
  assert.deepEqual(ids.toSorted((a, b) => a - b), Array.from({ length: 120 }, (_, i) => i + 1));
  assert.equal(queue.lastId, 120);
  assert.equal(queue.stats().packets, 120);
  assert.deepEqual(seen, [...new Set(seen)].toSorted((a, b) => a - b), "only ever grows");
});

const packetSizes = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 40_000 })),
  { minLength: 1, maxLength: 20 },
);
const units = fc.array(
  fc.record({
    sizes: packetSizes,
    expiresAtMs: fc.constantFrom(Infinity, 5000, 6000),
    skipped: fc.boolean(),
  }),
  { maxLength: 12 },
);

function spansOf(
  arena: Arena,
  description: readonly { sizes: number[]; expiresAtMs: number; skipped: boolean }[],
): PacketSpan[] {
  let seed = 0;
  const spans = description.map(({ sizes, expiresAtMs }) => {
    const payloads = sizes.map((size) => new Uint8Array(size).fill(++seed & 0xff));
    const [first] = payloads;
    assert(first);
    return payloads.length === 1 ? arena.copy(first, expiresAtMs) : arena.copyAll(
      payloads,
      Uint32Array.from(sizes),
      sizes.reduce((sum, size) => sum + size, 0),
      expiresAtMs,
    );
  });
  // Holes: what was withdrawn from the line.
  return spans.filter((_, i) => !description[i]?.skipped);
}

/** What a span holds, wherever it lies. */
const contentOf = ({ block, start, ...rest }: PacketSpan) => ({
  ...rest,
  content: block.slice(start, start + rest.bytes),
});

Deno.test("a commit that has travelled is the same commit", () => {
  fc.assert(fc.property(units, fc.integer({ min: 0, max: 3_000_000 }), (description, spare) => {
    const sent = request(spansOf(new Arena(), description), { removeThrough: 7, sentThrough: 9 });
    const packed = packCommit(sent, (bytes) => new ArrayBuffer(bytes + spare));
    const { units, ...rest } = unpackCommit(structuredClone(packed));
    const { units: sentUnits, ...sentRest } = sent;
    assert.deepEqual(rest, sentRest);
    assert.deepEqual(units.map(contentOf), sentUnits.map(contentOf));
  }));
});

Deno.test("a store in a Worker answers as one in this thread", async () => {
  using dir = new TempDir();
  let files = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ units, part: fc.double({ min: 0, max: 1, noNaN: true }) }), {
        minLength: 1,
        maxLength: 6,
      }),
      fc.constantFrom<Overflow>("reject", "wait", "drop-oldest"),
      fc.constantFrom(10, 1e6),
      async (commits, overflow, maxPackets) => {
        const name = `${++files}`;
        const here = SqliteStore.open(dir.file(`${name}.main`), {
          driver: nodeSqlite,
          durability: "process-crash",
        });
        const there = await WorkerStoreClient.open(dir.file(`${name}.worker`), "process-crash");
        const arena = new Arena();
        let lastId = 0;
        for (const { units, part } of commits) {
          const asked = request(spansOf(arena, units), {
            ...{ removeThrough: Math.floor(part * lastId), sentThrough: lastId },
            ...{ overflow, maxPackets, maxBytes: 300_000 },
          });
          const expected = here.commit(asked);
          const { batches, ...rest } = await there.commit(asked);
          const { batches: expectedBatches, ...expectedRest } = expected;
          assert.deepEqual(rest, expectedRest);
          assert.deepEqual(packetsOf(batches), packetsOf(expectedBatches));
          lastId = rest.state.lastId;
          for (const maxBytes of [1, 100_000, 1e9]) {
            const after = Math.floor(part * lastId / 2);
            const { batches: found, damaged } = await there.read(after, maxBytes);
            assert.deepEqual(packetsOf(found), packetsOf(here.read(after, maxBytes).batches));
            assert.equal(damaged, undefined);
          }
          assert.deepEqual(
            await there.edit({
              edit: {
                kind: "bury",
                ranges: [{ firstId: lastId, lastId }],
                reason: "gave-up",
                attempts: 2,
              },
              ...{ at: { wallMs: 7000, clockOffsetMs: 0, knownOffsetMs: 0 }, sentThrough: 0 },
              deadLimits: { maxDeadPackets: 1e6, maxDeadBytes: 1e9 },
            }),
            here.edit({
              edit: {
                kind: "bury",
                ranges: [{ firstId: lastId, lastId }],
                reason: "gave-up",
                attempts: 2,
              },
              ...{ at: { wallMs: 7000, clockOffsetMs: 0, knownOffsetMs: 0 }, sentThrough: 0 },
              deadLimits: { maxDeadPackets: 1e6, maxDeadBytes: 1e9 },
            }),
          );
          assert.deepEqual(await there.deadLetters(0, 1e9), here.deadLetters(0, 1e9));
          assert.deepEqual(await there.due(0, 5500, "by-time"), here.due(0, 5500, "by-time"));
          assert.deepEqual(await there.state(), here.state());
        }
        await there.close();
        here.close();
      },
    ),
    { numRuns: 25 },
  );
});

Deno.test("errors keep their class and their fields", async () => {
  using dir = new TempDir();
  const open = (path: string) => OutboundQueue.open(path, workerQueue);
  await assert.rejects(open(dir.path), fileError("not-a-queue", dir.path));
  await assert.rejects(open(dir.file("no/such.db")), fileError("io", dir.file("no/such.db")));
  Deno.writeTextFileSync(dir.file("diary"), "dear diary, ".repeat(1000));
  await assert.rejects(open(dir.file("diary")), (error) => {
    assert(fileError("not-a-queue", dir.file("diary"))(error));
    assert(error instanceof Error && error.cause instanceof SqliteError);
    assert.deepEqual([error.cause.code, error.cause.primaryCode], [26, 26]);
    return true;
  });
  const samples = [
    new QueueFileError("disk-full", "/q", "full", { cause: new SqliteError(13, "FULL") }),
    new SqliteError(4874, "shm"),
    new Deno.errors.NotCapable("flags"),
    new RangeError("range"),
    new TypeError("type", { cause: new Error("why") }),
    Object.assign(new Error("other"), { name: "OtherError" }),
  ];
  for (const error of samples) {
    const back = unpackError(structuredClone(packError(error)));
    assert.equal(Object.getPrototypeOf(back), Object.getPrototypeOf(error), error.name);
    assert.deepEqual(back, error);
    assert.deepEqual([back.name, back.message, back.stack], [
      error.name,
      error.message,
      error.stack,
    ]);
  }
  assert.equal(unpackError(packError("just words")).message, "just words");
});

Deno.test("a driver that was handed in cannot travel to a Worker", async () => {
  using dir = new TempDir();
  await assert.rejects(
    OutboundQueue.open(dir.queue, { commitIn: "worker", driver: new FaultDriver() }),
    (error) => error instanceof RangeError && /driver node:sqlite with faults/.test(error.message),
  );
  await (await OutboundQueue.open(dir.queue, { commitIn: "worker", driver: nodeSqlite })).close();
});

const script = new URL("./children/unclosed.ts", import.meta.url).pathname;

async function runUnclosed(path: string, read: readonly string[]): Promise<string> {
  const files = `${path},${path}.lock`;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--no-lock", `--allow-read=${[files, ...read].join(",")}`],
      ...[`--allow-write=${files}`, script, path],
    ],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim();
}

Deno.test("the least permissions do; a process ends though its queue was not closed", async () => {
  using dir = new TempDir();
  assert.equal(await runUnclosed(dir.queue, [SOURCES]), "stored 1");
  await using queue = await OutboundQueue.open(dir.queue);
  assert.equal(text((await queue.read(0, 10))[0]?.payload), "\0\0\0");
});

Deno.test("without the right to read the Worker's code the error names the flag", async () => {
  using dir = new TempDir();
  const said = await runUnclosed(dir.queue, []);
  assert(said.startsWith("true "), said);
  assert(said.includes(`--allow-read=${SOURCES}:`), said);
});

function fileError(reason: string, path: string): (error: unknown) => boolean {
  return (error) =>
    error instanceof QueueFileError && error.reason === reason && error.path === path &&
    error.name === "QueueFileError";
}
