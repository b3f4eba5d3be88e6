import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { QueueLockedError } from "../../src/base/errors.ts";
import { inotify } from "../../src/kernel/inotify.ts";
import { listenForRings } from "../../src/queue/doorbell.ts";
import { readSenderNotice } from "../../src/queue/lock_file.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { bytes, text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { child, lines } from "./helpers.ts";
import { inEachPlace, PLACES, TESTED } from "./threads.ts";

for (const syncIn of PLACES) {
  Deno.test(`killed -9 at random moments: what was acknowledged is there, ids are not reused (syncIn ${syncIn})`, async () => {
    using dir = new TempDir();
    const path = dir.queue;
    const acknowledged = new Map<number, string>();
    let removedThrough = 0;
    for (let round = 0; round < 20; round++) {
      const process = child("enqueuer.ts", path, `r${round}`, "Infinity", "7", syncIn);
      const killAfter = 1 + Math.floor(Math.random() * 400);
      let seen = 0;
      for await (const line of lines(process.stdout)) {
        const [id = "", content = ""] = line.split(" ");
        assert(!acknowledged.has(Number(id)), `id ${id} was given twice`);
        assert(Number(id) > removedThrough, `id ${id} was given again`);
        acknowledged.set(Number(id), content);
        if (++seen === killAfter) process.kill("SIGKILL");
      }
      const { signal } = await process.status;
      assert.equal(signal, "SIGKILL");

      await using queue = await OutboundQueue.open(path);
      const stored = new Map<number, string>();
      let after = removedThrough;
      for (;;) {
        const packets = await queue.read(after, 100_000);
        if (packets.length === 0) break;
        for (const { id, payload } of packets) {
          assert.equal(id, after + 1, "no gaps");
          stored.set(id, text(payload));
          after = id;
        }
      }
      assert.equal(queue.stats().packets, stored.size);
      for (const [id, content] of acknowledged) {
        if (id > removedThrough) {
          assert.equal(stored.get(id), content, `packet ${id} of round ${round}`);
        }
      }
      // Every third round the file is emptied: ids must go on all the same.
      if (round % 3 === 2) {
        await sendingSideOf(queue).removeThrough(queue.lastId);
        removedThrough = queue.lastId;
      }
    }
  });
}

inEachPlace(
  "several processes enqueue while one removes: nothing lost, counts exact",
  async (open, fileOf) => {
    using dir = new TempDir();
    const path = dir.queue;
    const name = fileOf === "spool" ? TESTED : "";
    await using queue = await open(path);
    const each = 1500;
    const processes = ["a", "b", "c"].map((tag) =>
      child("enqueuer.ts", path, tag, String(each), "7", tag === "c" ? "threads" : "loop", name)
    );
    const printed = Promise.all(processes.map(async ({ stdout }) => {
      const ids: number[] = [];
      for await (const line of lines(stdout)) ids.push(Number(line.split(" ")[0]));
      return ids;
    }));
    const got = new Map<string, number>();
    let enqueuedHere = 0;
    const deadline = Date.now() + 60_000;
    let after = 0;
    while (got.size < 3 * each + 200) {
      assert(Date.now() < deadline, `only ${got.size} packets came`);
      if (got.size % 5 === 0 && queue.lastId > 0) {
        for (let i = 0; i < 20 && enqueuedHere < 200; i++, enqueuedHere++) {
          await queue.enqueue(bytes(`here:${enqueuedHere}`));
        }
      }
      await sendingSideOf(queue).pollOtherProcesses();
      const packets = await queue.read(after, 10_000);
      for (const { id, payload } of packets) {
        assert.equal(id, after + 1, "no gaps");
        assert(!got.has(text(payload)), text(payload));
        got.set(text(payload), id);
        after = id;
      }
      if (packets.length > 0) await sendingSideOf(queue).removeThrough(after);
      else await new Promise((resolve) => systemClock.setTimer(1, () => resolve(undefined)));
    }
    const ids = (await printed).flat();
    assert.deepEqual((await Promise.all(processes.map((p) => p.status))).map((s) => s.code), [
      0,
      0,
      0,
    ]);
    assert.equal(new Set(ids).size, 3 * each);
    for (const tag of ["a", "b", "c"]) {
      const order = Array.from({ length: each }, (_, i) => got.get(`${tag}:${i}`) ?? assert.fail());
      assert.deepEqual(order, order.toSorted((x, y) => x - y), "each process's order is kept");
    }
    await sendingSideOf(queue).pollOtherProcesses();
    assert.deepEqual([queue.stats().packets, queue.stats().bytes], [0, 0]);
  },
);

Deno.test("one sender per queue: in this process", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  const lock = await SenderLock.acquire(queue.path);
  assert.equal((Deno.statSync(lock.path).mode ?? 0) & 0o777, 0o600);
  await assert.rejects(
    SenderLock.acquire(queue.path),
    (error) =>
      error instanceof QueueLockedError && error.holderPid === Deno.pid &&
      error.message.includes("in this process"),
  );
  // The same file under another name.
  // By `ln`, because Deno.symlink wants unscoped permissions.
  const ln = new Deno.Command("ln", { args: ["-s", dir.queue, dir.file("alias.db")] });
  assert(ln.outputSync().success);
  await assert.rejects(SenderLock.acquire(dir.file("alias.db")), QueueLockedError);
  lock.release();
  lock.release();
  using _again = await SenderLock.acquire(queue.path);
});

Deno.test("one sender per queue: another process, whose death frees it", async () => {
  using dir = new TempDir();
  const path = dir.queue;
  await (await OutboundQueue.open(path)).close();
  const holder = child("holder.ts", path);
  const said = lines(holder.stdout);
  assert.equal((await said.next()).value, `held ${holder.pid}`);
  await assert.rejects(
    SenderLock.acquire(path),
    (error) =>
      error instanceof QueueLockedError && error.holderPid === holder.pid &&
      error.message.includes(String(holder.pid)),
  );
  // Two containers may both have a process of one number.
  const file = Deno.openSync(`${path}.lock`, { write: true });
  file.writeSync(new TextEncoder().encode(`${Deno.pid}\n`));
  file.close();
  await assert.rejects(
    SenderLock.acquire(path),
    (error) =>
      error instanceof QueueLockedError && error.holderPid === Deno.pid &&
      !error.message.includes("in this process"),
  );
  holder.kill("SIGKILL");
  await holder.status;
  await said.return?.();
  using _lock = await SenderLock.acquire(path);
  assert.equal((await readSenderNotice(path))?.pid, Deno.pid);
});

Deno.test("the doorbell wakes the sender when another process has enqueued", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  using lock = await SenderLock.acquire(queue.path);
  // A clock whose timers never fire: only the bell can wake it.
  const bell = Promise.withResolvers<void>();
  const doorbell = listenForRings(lock.path, () => bell.resolve(), {
    ...systemClock,
    setTimer: () => () => {},
  });
  assert.equal(doorbell.mode, "watch", doorbell.pollReason);
  const process = child("enqueuer.ts", dir.queue, "a", "3");
  await bell.promise;
  await doorbell.stop();
  await process.stdout.cancel();
  await process.status;
});

Deno.test("sixteen lock files are watched, and further ones are asked once a second", async () => {
  using dir = new TempDir();
  const open = (i: number) => {
    const path = dir.file(`${i}.lock`);
    Deno.writeTextFileSync(path, "");
    return listenForRings(path, () => {}, systemClock);
  };
  const doorbells = Array.from({ length: 17 }, (_, i) => open(i));
  const modes = doorbells.map(({ mode }) => mode);
  assert.deepEqual(modes, [...Array(16).fill("watch"), "poll"]);
  assert.match(doorbells[16]?.pollReason ?? "", /watches 16 queues already/);
  // One that stops, however often it is told, makes room for one.
  await doorbells[0]?.stop();
  await doorbells[0]?.stop();
  await doorbells[16]?.stop();
  const more = [open(17), open(18)];
  assert.deepEqual(more.map(({ mode }) => mode), ["watch", "poll"]);
  for (const doorbell of [...doorbells, ...more]) await doorbell.stop();
});

Deno.test("a sender hears of each of twenty queues at once, and not of its own reports", async () => {
  using dir = new TempDir();
  const queues = Array.from({ length: 20 }, (_, i) => dir.file(`${i}.db`));
  for (const queue of queues) await (await OutboundQueue.open(queue)).close();
  const locks = await Promise.all(queues.map((queue) => SenderLock.acquire(queue)));
  const rung: string[] = [];
  const bell = Promise.withResolvers<void>();
  const never = { ...systemClock, setTimer: () => () => {} };
  const doorbells = locks.map(({ path }) =>
    listenForRings(
      path,
      () => {
        rung.push(path);
        bell.resolve();
      },
      never,
      inotify() ?? assert.fail("the C library was granted"),
    )
  );
  assert.deepEqual(doorbells.map(({ mode }) => mode), Array(20).fill("watch"));
  for (const lock of locks) lock.publish("a report");
  const process = child("enqueuer.ts", queues[18] ?? "", "a", "1");
  await bell.promise;
  assert.deepEqual(rung, [locks[18]?.path]);
  for (const doorbell of doorbells) await doorbell.stop();
  for (const lock of locks) await lock.release();
  await process.stdout.cancel();
  await process.status;
});

Deno.test("a queue that answers the doorbell learns of packets and does not ring itself", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  using lock = await SenderLock.acquire(queue.path);
  const doorbell = sendingSideOf(queue).answerDoorbell(lock);
  const before = Deno.statSync(lock.path).mtime;
  await queue.enqueue(bytes("own"));
  assert.deepEqual(Deno.statSync(lock.path).mtime, before);
  const told = Promise.withResolvers<void>();
  sendingSideOf(queue).subscribe(() => told.resolve());
  await using other = await OutboundQueue.open(dir.queue);
  // A burst within the ringing interval: the last ring comes late, but comes.
  await other.enqueue(bytes("1"));
  await other.enqueue(bytes("2"));
  await told.promise;
  const deadline = Date.now() + 20_000;
  while (queue.lastId < 3) {
    assert(Date.now() < deadline);
    await new Promise((resolve) => systemClock.setTimer(1, () => resolve(undefined)));
  }
  // From here on it is a process like any other, and rings.
  await doorbell.stop();
  const rung = Promise.withResolvers<void>();
  const next = listenForRings(lock.path, () => rung.resolve(), {
    ...systemClock,
    setTimer: () => () => {},
  });
  await queue.enqueue(bytes("rings"));
  await rung.promise;
  await next.stop();
});

Deno.test("without inotify the doorbell polls and says so", async () => {
  using dir = new TempDir();
  using lock = await SenderLock.acquire(dir.queue);
  const { watchFs } = Deno;
  Deno.watchFs = () => {
    throw new Error("Too many open files (os error 24)");
  };
  const clock = new ManualClock();
  const rings: boolean[] = [];
  try {
    const doorbell = listenForRings(lock.path, (rung) => rings.push(rung), clock);
    assert.deepEqual([doorbell.mode, doorbell.pollReason], [
      "poll",
      "Too many open files (os error 24)",
    ]);
    clock.advance(2000);
    assert.deepEqual(rings, [false, false], "nobody has rung");
    await doorbell.stop();
    assert.equal(clock.timers.size, 0);
  } finally {
    Deno.watchFs = watchFs;
  }
});
