import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { QueueTime } from "../../src/queue/read/queue_time.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { settle } from "./helpers.ts";

const DAY_MS = 24 * 3600 * 1000;
const YEAR_MS = 365 * DAY_MS;

/** Which packets a sender would get now. */
async function sendable(queue: OutboundQueue): Promise<number[]> {
  return (await sendingSideOf(queue).readBatches(0, 1e6)).map(({ firstId }) => firstId);
}

Deno.test("the time of a queue goes on as the monotonic clock, whatever the wall clock does", () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ passMs: fc.integer({ min: 0, max: 1e7 }), jumpMs: fc.constant(0) }),
      fc.record({
        passMs: fc.integer({ min: 0, max: 1e7 }),
        jumpMs: fc.oneof(
          fc.integer({ min: 1001, max: 2e12 }),
          fc.integer({ min: -2e12, max: -1001 }),
        ),
      }),
    ),
    { maxLength: 20 },
  );
  fc.assert(fc.property(steps, fc.integer({ min: -1e12, max: 1e12 }), (steps, clockOffsetMs) => {
    const clock = new ManualClock();
    const time = new QueueTime(clock, { clockOffsetMs, writtenAtMs: 0 });
    const startMs = clock.wall + clockOffsetMs;
    let passedMs = 0;
    let jumpedMs = 0;
    for (const { passMs, jumpMs } of steps) {
      clock.advance(passMs);
      clock.wall += jumpMs;
      passedMs += passMs;
      jumpedMs += jumpMs;
      assert.equal(time.nowMs(), startMs + passedMs);
      assert.equal(time.moment().clockOffsetMs, clockOffsetMs - jumpedMs);
      assert.equal(time.isToBeNoted, Math.abs(jumpedMs) > 1000);
      assert.equal(time.toWallMs(time.nowMs()), clock.wall);
    }
  }));
});

Deno.test("what whole milliseconds leave over of many jumps does not add up", () => {
  const clock = new ManualClock();
  const time = new QueueTime(clock, { clockOffsetMs: 0, writtenAtMs: 0 });
  const startMs = clock.wall;
  for (let i = 1; i <= 100; i++) {
    clock.advance(1);
    clock.wall += 3_600_000.4;
    assert.ok(Math.abs(time.nowMs() - startMs - i) < 0.01, String(time.nowMs() - startMs - i));
    const { wallMs, clockOffsetMs } = time.moment();
    assert.ok(Math.abs(wallMs + clockOffsetMs - startMs - i) <= 1);
    assert.ok(Number.isInteger(wallMs + clockOffsetMs));
  }
});

Deno.test("a slewed wall clock is followed", () => {
  const clock = new ManualClock();
  const time = new QueueTime(clock, { clockOffsetMs: 0, writtenAtMs: 0 });
  for (let i = 0; i < 100; i++) {
    clock.advance(1000);
    clock.wall += 500;
    assert.equal(time.nowMs(), clock.wall);
  }
  assert.equal(time.isToBeNoted, false);
});

Deno.test("across a restart the wall clock counts, where it can be believed", async (t) => {
  const start = Date.UTC(2026, 5, 1);
  const cases: [string, number, number, number][] = [
    // When it was stored, when it is opened, how much time has passed.
    ["an hour", start, start + 3600_000, 3600_000],
    ["400 days", start, start + 400 * DAY_MS, 400 * DAY_MS],
    ["more than 400 days", start, start + 401 * DAY_MS, 0],
    ["a clock that went back", start, start - 5000, 0],
    ["a board that began in 2000, set right", Date.UTC(2000, 0, 1), start, 0],
    ["a board that begins in 1970 again", start, 5000, 0],
    ["a board that begins in 1970 each time", 5000, 90_000, 0],
  ];
  for (const [name, storedAtMs, openedAtMs, passedMs] of cases) {
    await t.step(name, async () => {
      using dir = new TempDir();
      const clock = new ManualClock();
      clock.wall = storedAtMs;
      const before = await OutboundQueue.open(dir.queue, { clock });
      await before.enqueue(bytes("gone"), { ttlMs: Math.max(1, passedMs) });
      await before.enqueue(bytes("left"), { ttlMs: passedMs + 2 });
      await before.close();
      const later = new ManualClock();
      later.wall = openedAtMs;
      await using queue = await OutboundQueue.open(dir.queue, { clock: later });
      assert.deepEqual(await sendable(queue), passedMs === 0 ? [1, 2] : [2]);
      later.advance(1);
      assert.deepEqual(await sendable(queue), [2]);
      later.advance(1);
      assert.deepEqual(await sendable(queue), []);
      assert.equal(queue.stats().expiredPackets, 2);
    });
  }
});

Deno.test("a clock that is set while the queue is open makes nothing expire, then or later", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  clock.wall = Date.UTC(2000, 0, 1);
  {
    await using queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: DAY_MS });
    await queue.enqueue(bytes("1"));
    clock.advance(1000);
    clock.wall += 27 * YEAR_MS;
    // Nothing is stored or sent: the note comes from the poll.
    await sendingSideOf(queue).pollOtherProcesses();
    assert.deepEqual(await sendable(queue), [1]);
  }
  // Another process, an hour later.
  clock.advance(3600_000);
  await using queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: DAY_MS });
  await queue.enqueue(bytes("2"));
  clock.advance(DAY_MS - 3600_000 - 1001);
  assert.deepEqual(await sendable(queue), [1, 2]);
  clock.advance(1);
  assert.deepEqual(await sendable(queue), [2]);
  // The sender compares with the wall clock.
  const [batch] = await sendingSideOf(queue).readBatches(0, 100);
  assert.equal(batch?.expiresAtMs, clock.wall + 3600_000 + 1000);
});

Deno.test("a jump that nobody has noticed is noted when the queue is closed", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  clock.wall = Date.UTC(2026, 5, 1);
  const first = await OutboundQueue.open(dir.queue, { clock });
  await first.enqueue(bytes("1"), { ttlMs: 10_000 });
  clock.wall += 30 * DAY_MS;
  await first.close();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  assert.deepEqual(await sendable(queue), [1]);
});

Deno.test("two processes agree on a jump, whoever notices it first", async () => {
  for (const first of [0, 1]) {
    using dir = new TempDir();
    const clock = new ManualClock();
    clock.wall = Date.UTC(2026, 5, 1);
    const open = () => OutboundQueue.open(dir.queue, { clock, ttlMs: 10_000 });
    const queues = [await open(), await open()];
    const [one, other] = first === 0 ? queues : queues.toReversed();
    assert(one && other);
    await one.enqueue(bytes("1"));
    clock.wall += 7 * DAY_MS;
    clock.advance(400);
    await sendingSideOf(one).pollOtherProcesses();
    clock.advance(400);
    await other.enqueue(bytes("2"));
    await one.enqueue(bytes("3"));
    // A third one that begins now takes it over.
    const third = await open();
    await third.enqueue(bytes("4"));
    for (const queue of [...queues, third]) {
      await sendingSideOf(queue).pollOtherProcesses();
      assert.deepEqual(await sendable(queue), [1, 2, 3, 4]);
    }
    clock.advance(9_200);
    for (const queue of [...queues, third]) {
      await sendingSideOf(queue).pollOtherProcesses();
      assert.deepEqual(await sendable(queue), [2, 3, 4]);
    }
    clock.advance(800);
    assert.deepEqual(await sendable(one), []);
    for (const queue of [...queues, third]) await queue.close();
  }
});

Deno.test("who looks after a jump that nobody saw sees what the next sender will send", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  clock.wall = Date.UTC(2000, 0, 1);
  await using queue = await OutboundQueue.open(dir.queue, { clock, ttlMs: 10_000 });
  await queue.enqueue(bytes("1"));
  clock.wall += 27 * YEAR_MS;
  await using next = await OutboundQueue.open(dir.queue, { clock });
  assert.deepEqual(await sendable(next), [1]);
  using inspector = await QueueInspector.open(dir.queue, { clock });
  const [packet] = await Array.fromAsync(inspector.packets());
  assert.equal(packet?.state, "waiting");
  assert.equal(packet?.expiresAtMs, clock.wall + 10_000);
});

Deno.test("a process that began in a jump does not quarrel with one that saw it", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  clock.wall = Date.UTC(2000, 0, 1);
  await using old = await OutboundQueue.open(dir.queue, { clock, ttlMs: 200_000 });
  await old.enqueue(bytes("1"));
  clock.advance(100_000);
  clock.wall += 27 * YEAR_MS;
  // It cannot know that 100 s have passed, and says so in the file first.
  await using young = await OutboundQueue.open(dir.queue, { clock, ttlMs: 200_000 });
  await young.enqueue(bytes("2"));
  for (let i = 0; i < 3; i++) {
    await sendingSideOf(old).pollOtherProcesses();
    await sendingSideOf(young).pollOtherProcesses();
    await settle();
  }
  const logged = Deno.statSync(`${dir.queue}-wal`).size;
  for (let i = 0; i < 3; i++) {
    await sendingSideOf(old).pollOtherProcesses();
    await sendingSideOf(young).pollOtherProcesses();
  }
  assert.equal(Deno.statSync(`${dir.queue}-wal`).size, logged, "nobody writes any more");
  clock.advance(99_999);
  assert.deepEqual(await sendable(old), [1, 2]);
  // The second was stored by the time of the younger one, which was 100 s behind.
  clock.advance(1);
  assert.deepEqual(await sendable(old), []);
});

Deno.test("what the sender holds for expired, the queue does, however a clock was set", () => {
  const clock = {
    mono: 0,
    wall: Date.UTC(2026, 5, 1),
    nowMs: () => clock.mono,
    wallMs: () => clock.wall,
  };
  const time = new QueueTime(clock, { clockOffsetMs: 0, writtenAtMs: 0 });
  const expiresAtMs = time.nowMs() + 10_000;
  for (const jumpMs of [-100_000.4, 50_000.3, 5_000.3, -2_000.4]) {
    clock.wall += jumpMs;
    clock.mono += 1000;
    clock.wall += 1000;
    time.nowMs();
    const leftMs = time.toWallMs(expiresAtMs) - clock.wallMs();
    const queueMs = expiresAtMs - time.nowMs();
    assert(leftMs >= queueMs && leftMs < queueMs + 1, `${leftMs}, ${queueMs}`);
  }
});
