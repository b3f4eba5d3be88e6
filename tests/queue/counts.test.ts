import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { HandedOut } from "../../src/queue/read/handed_out.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { child, lines } from "./helpers.ts";

const WAL_HEADER_BYTES = 32;
const FRAME_BYTES = 24 + 4096;

/** Pages in a queue's log. */
function frames(path: string): number {
  return (Deno.statSync(`${path}-wal`).size - WAL_HEADER_BYTES) / FRAME_BYTES;
}

Deno.test("a commit of one packet writes one page of the log", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue(new Uint8Array(100));
  const before = frames(dir.queue);
  for (let i = 0; i < 100; i++) await queue.enqueue(new Uint8Array(100));
  // Some 25 packets fill a page; then a commit also writes the new page and the one above.
  const pages = frames(dir.queue) - before;
  assert(pages >= 100 && pages <= 112, `${pages} pages for 100 commits`);
});

Deno.test("a removal merged into such a commit writes the page that it empties, no more", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  for (let i = 0; i < 5; i++) await queue.enqueue(new Uint8Array(100));
  const before = frames(dir.queue);
  for (let id = 1; id <= 5; id++) {
    await Promise.all([sendingSideOf(queue).removeThrough(id), queue.enqueue(new Uint8Array(100))]);
  }
  assert.equal(frames(dir.queue) - before, 5);
  await sendingSideOf(queue).removeThrough(6);
  assert.equal(frames(dir.queue) - before, 7, "one for the packets, one for the counts");
});

type Step =
  | { do: "enqueue"; sizes: number[] }
  | { do: "enqueueAndRemove"; sizes: number[]; part: number }
  | { do: "remove" | "excise" | "giveUp" | "requeue" | "sent"; part: number }
  | { do: "poll" | "reopen" };

const sizes = fc.array(fc.integer({ min: 1, max: 6000 }), { minLength: 1, maxLength: 6 });
const part = fc.double({ min: 0, max: 1.1, noNaN: true });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("enqueue" as const), sizes }),
  fc.record({ do: fc.constant("enqueueAndRemove" as const), sizes, part }),
  fc.record({
    do: fc.constantFrom(
      ...["remove" as const, "excise" as const, "giveUp" as const, "requeue" as const],
      "sent" as const,
    ),
    part,
  }),
  fc.record({ do: fc.constantFrom("poll" as const, "reopen" as const) }),
);

Deno.test("whoever commits what: the counts of the last row or of `state` are those of the rows", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat({ max: 1 }), step), { minLength: 1, maxLength: 25 }),
      fc.constantFrom(40, 1e6),
      fc.constantFrom("reject" as const, "drop-oldest" as const),
      async (steps, maxPackets, overflow) => {
        using dir = new TempDir();
        const clock = new ManualClock();
        const open = () =>
          OutboundQueue.open(dir.queue, {
            ...{ clock, maxPackets, overflow, durability: "process-crash", maxDeadPackets: 5 },
          });
        const queues = [await open(), await open()];
        let lastId = 0;
        for (const [which, one] of steps) {
          const queue = queues[which];
          assert(queue);
          const idAt = (part: number) => Math.floor(part * queue.lastId);
          switch (one.do) {
            case "enqueueAndRemove":
              await Promise.all([
                sendingSideOf(queue).removeThrough(idAt(one.part)),
                queue.enqueueMany(one.sizes.map((n) => new Uint8Array(n))).catch(() => {}),
              ]);
              break;
            case "enqueue":
              await queue.enqueueMany(one.sizes.map((n) => new Uint8Array(n))).catch(() => {});
              break;
            case "remove":
              await sendingSideOf(queue).removeThrough(idAt(one.part));
              break;
            case "excise":
              await queue.removePackets({ firstId: idAt(one.part), lastId: idAt(one.part) + 2 });
              break;
            case "giveUp":
              await sendingSideOf(queue).giveUp(idAt(one.part), 1);
              break;
            case "requeue":
              await queue.requeue({ firstId: 0, lastId: idAt(one.part) });
              break;
            case "sent":
              sendingSideOf(queue).rememberSent(idAt(one.part));
              break;
            case "poll":
              await sendingSideOf(queue).pollOtherProcesses();
              break;
            case "reopen":
              await queue.close();
              queues[which] = await open();
              break;
          }
          using inspector = await QueueInspector.open(dir.queue);
          assert.deepEqual(await inspector.check(), []);
          const { lastId: now } = await inspector.counts();
          assert(now >= lastId, "ids never go back");
          lastId = now;
        }
        const seen = [];
        for (const queue of queues) {
          await sendingSideOf(queue).pollOtherProcesses();
          seen.push({ ...queue.stats(), removedThroughId: queue.removedThroughId });
        }
        assert.deepEqual(seen[0], seen[1]);
        for (const queue of queues) await queue.close();
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("two processes that store and remove at the same time leave true counts", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, { durability: "process-crash" });
  const enqueuer = child("enqueuer.ts", dir.queue);
  let theirs = 0;
  for await (const line of lines(enqueuer.stdout)) {
    assert(line.length > 0);
    theirs++;
    const id = await queue.enqueue(bytes(`ours ${theirs}`));
    if (theirs % 3 === 0) await sendingSideOf(queue).removeThrough(id - 2);
    if (theirs === 60) break;
  }
  enqueuer.kill("SIGKILL");
  await enqueuer.status;
  using inspector = await QueueInspector.open(dir.queue);
  assert.deepEqual(await inspector.check(), []);
  const { lastId, packets } = await inspector.counts();
  assert(lastId >= 120 && packets > 0, `${lastId} ids, ${packets} packets`);
});

Deno.test("what was given out is counted, however it was cut, taken back and removed", () => {
  type Op = { do: "give" | "jump" | "takeBack" | "remove"; by: number; sizes: number[] };
  const op: fc.Arbitrary<Op> = fc.record({
    // Mostly one behind the other: else little would lie there to be cut.
    do: fc.constantFrom(
      ...["give", "give", "give", "takeBack", "remove", "remove", "jump"] as const,
    ),
    by: fc.nat({ max: 20 }),
    sizes: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 }),
  });
  fc.assert(
    fc.property(
      fc.array(op, { maxLength: 40 }),
      fc.nat(40),
      fc.nat(40),
      fc.record({ packets: fc.nat(30), bytes: fc.integer({ min: 1, max: 99 }) }),
      (ops, a, b, enough) => {
        const handedOut = new HandedOut();
        let model = new Map<number, number>();
        let from = 0, through = 0, removed = 0;
        for (const { do: what, by, sizes } of ops) {
          const back = what === "give" ? Math.max(0, by - 15) : by;
          const id = what === "jump" || what === "remove"
            ? (what === "jump" ? through : removed) + by
            : Math.max(removed, through - back);
          if (what === "remove") {
            removed = Math.min(id, through);
            handedOut.removeThrough(removed);
            continue;
          }
          model = new Map([...model].filter(([one]) => one <= id));
          if (what === "takeBack") {
            handedOut.takeBack(id);
            through = Math.min(through, id);
            continue;
          }
          if (id > through || id < from) [model, from] = [new Map(), id];
          const ends = new Uint32Array(sizes.length);
          let end = 0;
          for (const [i, size] of sizes.entries()) {
            ends[i] = end += size;
            model.set(id + 1 + i, size);
          }
          handedOut.give(id, [{
            ...{ firstId: id + 1, ends, bytes: new Uint8Array(end), expiresAtMs: Infinity },
          }]);
          through = id + sizes.length;
        }
        const [afterId, throughId] = [removed + Math.min(a, b), removed + Math.max(a, b)];
        const counted = handedOut.count(afterId, throughId, enough);
        if (counted === undefined) return assert(afterId < from || throughId > through);
        assert(afterId >= from && throughId <= through && counted.throughId <= throughId);
        const within = [...model].filter(([id]) => id > afterId && id <= counted.throughId);
        const size = within.reduce((sum, [, one]) => sum + one, 0);
        const { throughId: reachedId } = counted;
        assert.deepEqual(counted, {
          ...{ afterId, throughId: reachedId, packets: within.length, bytes: size },
        });
        const last = within.at(-1)?.[0] ?? 0;
        const isEnough = size >= enough.bytes && within.length >= enough.packets;
        assert(reachedId === throughId || isEnough, "a part is no smaller than it may be");
        const less = within.filter(([id]) => id <= last - 12);
        const lessBytes = less.reduce((sum, [, one]) => sum + one, 0);
        assert(
          lessBytes < enough.bytes || less.length < enough.packets,
          "nor larger, but for a batch",
        );
      },
    ),
    { numRuns: 2000 },
  );
});
