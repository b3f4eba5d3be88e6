/** A queue is a file and not a name: files that are removed, replaced, moved or have two names. */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { QueueFileError } from "../../src/base/errors.ts";
import { readSenderNotice, toLockFileError } from "../../src/queue/lock_file.ts";
import { backUpQueue } from "../../src/queue/inspect/backup.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { repairQueue } from "../../src/queue/repair/repair.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { watchFiles } from "../../src/sender/file_watch.ts";
import { bytes, text } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { child, lines, NO_TMPFS, unless } from "./helpers.ts";
import { inEachFile, inEachPlace, type Open } from "./threads.ts";

/** Each takes the file at `path` away from whoever has it open. */
const MISHAPS: { readonly [name: string]: (path: string, open: Open) => Promise<void> | void } = {
  "removed": (path) => Deno.removeSync(path),
  "removed with its log": (path) => {
    for (const end of ["", "-wal", "-shm"]) Deno.removeSync(path + end);
  },
  "moved": (path) => Deno.renameSync(path, `${path}.moved`),
  "moved, and a link leads to it": (path) => {
    Deno.renameSync(path, `${path}.moved`);
    Deno.symlinkSync(`${path}.moved`, path);
  },
  "replaced": async (path, open) => {
    await (await open(`${path}.other`)).close();
    Deno.renameSync(`${path}.other`, path);
  },
  "its log removed": (path) => Deno.removeSync(`${path}-wal`),
};

for (const [name, mishap] of Object.entries(MISHAPS)) {
  inEachPlace(`a file that is ${name}: nothing is stored in it any more`, async (open) => {
    using dir = new TempDir();
    const clock = new ManualClock();
    await using queue = await open(dir.queue, { clock });
    await queue.enqueue(bytes("before"));
    assert.equal(queue.misplaced(), undefined);
    await mishap(dir.queue, open);
    // Within the second, nobody has looked.
    await queue.enqueue(bytes("within the second"));
    clock.advance(1000);
    await assert.rejects(queue.enqueue(bytes("after")), isMisplaced);
    await assert.rejects(queue.enqueueMany([bytes("after")]), isMisplaced);
    assert(isMisplaced(queue.misplaced()));
    // What is in it can still be delivered.
    const packets = await queue.read(0, 1000);
    assert.deepEqual(packets.map(({ payload }) => text(payload)), ["before", "within the second"]);
    await sendingSideOf(queue).removeThrough(2);
    assert.equal(queue.stats().packets, 0);
  });
}

inEachPlace("an older copy that is written over a file in use is noticed", async (open) => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await open(dir.queue, { clock });
  await queue.enqueue(bytes("old"));
  await queue.close();
  const old = Deno.readFileSync(dir.queue);
  await using again = await open(dir.queue, { clock });
  await again.enqueueMany(["new", "new"]);
  // As cp does it, at a moment at which all of the log is in the file.
  const other = new DatabaseSync(dir.queue);
  other.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  Deno.writeFileSync(dir.queue, old);
  // Whoever comes next writes what the first one has to read.
  other.exec("UPDATE state SET written_at_ms = written_at_ms + 1");
  other.close();
  await assert.rejects(again.enqueue("newer"), isOverwritten);
  await assert.rejects(sendingSideOf(again).removeThrough(3), isOverwritten);
  await assert.rejects(sendingSideOf(again).pollOtherProcesses(), isOverwritten);
  assert(isOverwritten(again.misplaced()));
  // Whoever opens what is there now has nothing to do with what was.
  await again.close();
  await using present = await open(dir.queue, { clock });
  assert.equal(await present.enqueue("first"), 2);
});

function isOverwritten(error: unknown): boolean {
  return isMisplaced(error) && /overwritten.* was 3, and is 1 now/.test(String(error));
}

inEachPlace("a queue that is closed in order was not misplaced", async (open) => {
  using dir = new TempDir();
  const queue = await open(dir.queue);
  await queue.enqueue(bytes("x"));
  await queue.close();
  // SQLite has removed the log by itself.
  assert.throws(() => Deno.statSync(`${dir.queue}-wal`), Deno.errors.NotFound);
  assert.equal(queue.misplaced(), undefined);
});

inEachPlace("no new queue is made beside the log of an old one", async (open) => {
  using dir = new TempDir();
  const queue = await open(dir.file("live"));
  await queue.enqueue(bytes("in the log alone"));
  for (const end of ["", "-wal"]) Deno.copyFileSync(dir.file("live") + end, dir.file("q") + end);
  await queue.close();
  const log = Deno.readFileSync(dir.file("q-wal"));
  const file = Deno.readFileSync(dir.file("q"));
  for (const what of ["missing", "empty"]) {
    if (what === "missing") Deno.removeSync(dir.file("q"));
    else Deno.writeFileSync(dir.file("q"), new Uint8Array(0));
    await assert.rejects(
      open(dir.file("q")),
      (error) => isMisplaced(error) && error.message.includes(dir.file("q-wal")),
    );
    assert.deepEqual(Deno.readFileSync(dir.file("q-wal")), log, what);
  }
  Deno.writeFileSync(dir.file("q"), file);
  await using again = await open(dir.file("q"));
  assert.equal(again.stats().packets, 1);
});

Deno.test("without the right to see the log, a lock file tells that there was a queue", async () => {
  using dir = new TempDir();
  const first = child("enqueuer.ts", dir.queue, "a", "3");
  for await (const _ of lines(first.stdout)); // To its end.
  assert((await first.status).success);
  Deno.removeSync(dir.queue);
  const script = dir.file("open.ts");
  const module = new URL("../../src/queue/queue.ts", import.meta.url).href;
  Deno.writeTextFileSync(
    script,
    `import { OutboundQueue } from "${module}";
     try { await using _ = await OutboundQueue.open(Deno.args[0]); console.log("opened"); }
     catch (error) { console.log(error.reason, error.message); }`,
  );
  const open = async () => {
    const files = `${dir.queue},${dir.queue}.lock`;
    const flags = ["--no-prompt", "--no-lock", `--allow-read=${files}`, `--allow-write=${files}`];
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", ...flags, script, dir.queue],
    }).output();
    return text(stdout);
  };
  assert.match(await open(), /^misplaced .*there was a queue.*--allow-read=\S+-wal/);
  assert.throws(() => Deno.statSync(dir.queue), Deno.errors.NotFound);
  Deno.removeSync(`${dir.queue}.lock`);
  assert.equal(await open(), "opened\n");
});

inEachFile("no new queue is made under the name of one that a sender has", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue);
  using lock = await SenderLock.acquire(queue.path);
  for (const end of ["", "-wal", "-shm"]) Deno.removeSync(dir.queue + end);
  await assert.rejects(
    open(dir.queue),
    (error) => isMisplaced(error) && error.message.includes(`process ${Deno.pid}`),
  );
  assert.throws(() => Deno.statSync(dir.queue), Deno.errors.NotFound);
  lock.release();
  await using fresh = await open(dir.queue);
  assert.equal(fresh.stats().packets, 0);
});

inEachPlace("a file with two names is refused under both", async (open) => {
  using dir = new TempDir();
  await (await open(dir.queue)).close();
  Deno.linkSync(dir.queue, dir.file("second"));
  for (const name of ["outbox.db", "second"]) {
    await assert.rejects(open(dir.file(name)), isMisplaced);
    await assert.rejects(SenderLock.acquire(dir.file(name)), isMisplaced);
  }
  Deno.removeSync(dir.file("second"));
  await using _queue = await open(dir.queue);
  using _lock = await SenderLock.acquire(dir.queue);
});

Deno.test("a file is looked into, copied and repaired under the name that has its log", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  // Only in the log, which lies beside the one name.
  await queue.enqueue(new Uint8Array([1]));
  for (const end of ["", "-wal"]) Deno.copyFileSync(dir.queue + end, dir.file(`copy${end}`));
  Deno.linkSync(dir.file("copy"), dir.file("second"));
  const to = dir.file("new.db");
  const second = dir.file("second");
  await assert.rejects(QueueInspector.open(second), isMisplaced);
  await assert.rejects(backUpQueue(second, to), isMisplaced);
  assert.throws(() => repairQueue(second, to), isMisplaced);
  assert.throws(() => Deno.lstatSync(to), Deno.errors.NotFound);
  assert.equal((await backUpQueue(dir.file("copy"), to)).counts.packets, 1);
  assert.equal(repairQueue(dir.file("copy"), dir.file("repaired.db")).packets, 1);
});

Deno.test({
  ...unless(NO_TMPFS, "a file that is mounted by itself is refused by who may see mounts"),
  fn: async () => {
    using dir = new TempDir();
    await (await OutboundQueue.open(dir.queue)).close();
    Deno.mkdirSync(dir.file("container"));
    // The kernel writes the blank in another way.
    const inside = dir.file("container/outbox 1.db");
    Deno.writeTextFileSync(inside, "");
    run("mount", "--bind", dir.queue, inside);
    try {
      const opener = new URL("./children/opener.ts", import.meta.url).pathname;
      const flags = ["run", "--quiet", "--no-lock", "--allow-all"];
      const said = run(Deno.execPath(), ...flags, opener, inside);
      const [loop, threads, lock, rest] = said.split("\n");
      for (const line of [loop, threads, lock]) assert.match(line ?? "", /mounted by itself/, said);
      assert.equal(rest, "");
      using _lock = await SenderLock.acquire(dir.queue);
    } finally {
      run("umount", inside);
    }
  },
});

Deno.test({
  ...unless(NO_TMPFS, "a sender without the right to see mounts: refused by the lock beside it"),
  fn: async () => {
    using dir = new TempDir();
    Deno.mkdirSync(dir.file("outside"));
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", dir.file("outside"));
    const inside = dir.file("inside.db");
    Deno.writeTextFileSync(inside, "");
    Deno.writeTextFileSync(dir.file("outside/outbox.db"), "");
    run("mount", "--bind", dir.file("outside/outbox.db"), inside);
    try {
      const holder = child("holder.ts", inside);
      const said = lines(holder.stdout);
      const { value } = await said.next();
      holder.kill("SIGKILL");
      await said.return?.();
      await holder.status;
      assert.match(String(value), /mounted by itself/);
    } finally {
      run("umount", inside);
      run("umount", dir.file("outside"));
    }
  },
});

Deno.test({
  ...unless(NO_TMPFS, "the first packet in a container with nothing but the file is refused"),
  fn: async () => {
    using dir = new TempDir();
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue(new Uint8Array([1]));
    Deno.mkdirSync(dir.file("container"));
    run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", dir.file("container"));
    const inside = dir.file("container/outbox.db");
    Deno.writeTextFileSync(inside, "");
    run("mount", "--bind", dir.queue, inside);
    try {
      const producer = child("unclosed.ts", inside);
      const said = lines(producer.stdout);
      const { value } = await said.next();
      producer.kill("SIGKILL");
      await said.return?.();
      await producer.status;
      assert.match(String(value), /mounted by itself/);
    } finally {
      run("umount", inside);
      run("umount", dir.file("container"));
    }
  },
});

Deno.test("a lock file that is a symbolic link is not followed", async () => {
  using dir = new TempDir();
  const other = dir.file("precious");
  Deno.writeTextFileSync(other, "precious");
  run("ln", "-s", other, `${dir.queue}.lock`);
  await assert.rejects(SenderLock.acquire(dir.queue), isMisplaced);
  await assert.rejects(readSenderNotice(dir.queue), isMisplaced);
  assert.equal(Deno.readTextFileSync(other), "precious");
});

Deno.test("a lock file that is no file of ours is named", async () => {
  using dir = new TempDir();
  Deno.mkdirSync(`${dir.queue}.lock`);
  await assert.rejects(
    SenderLock.acquire(dir.queue),
    (error) => error instanceof QueueFileError && error.message.includes(`${dir.queue}.lock is a`),
  );
});

Deno.test("an error about the lock file names it and its owner, not the queue", () => {
  using dir = new TempDir();
  Deno.writeTextFileSync(`${dir.queue}.lock`, "");
  const refused = Object.assign(new Deno.errors.PermissionDenied("no"), { code: "EACCES" });
  const error = toLockFileError(refused, dir.queue, `${dir.queue}.lock`);
  assert(error instanceof QueueFileError && error.reason === "read-only");
  const { uid } = Deno.statSync(`${dir.queue}.lock`);
  assert(
    error.message.startsWith(
      `Queue ${dir.queue}: its lock file ${dir.queue}.lock cannot be opened (EACCES): ` +
        `it belongs to user ${uid}.`,
    ),
    error.message,
  );
});

Deno.test("a filesystem without locks is named as that", () => {
  using dir = new TempDir();
  // As Deno reports ENOLCK: an Error without a class or a code.
  const refused = new Error("No locks available (os error 37)");
  const error = toLockFileError(refused, dir.queue, `${dir.queue}.lock`);
  assert(error instanceof QueueFileError && error.reason === "io");
  assert(error.message.includes(`${dir.queue}.lock cannot be locked: No locks`), error.message);
  assert(error.message.includes("filesystem that has locks"), error.message);
});

const LOCK_MISHAPS = [
  ["removed", "with packets", 1000],
  ["replaced", "with packets", 1000],
  ["removed", "in which nothing happens", 5000],
] as const;
for (const [mishap, what, withinMs] of LOCK_MISHAPS) {
  const name = `the lock file of a queue ${what} that is ${mishap} is missed within ${withinMs} ms`;
  Deno.test(name, async () => {
    using dir = new TempDir();
    const clock = new ManualClock();
    await using queue = await openHere(dir.queue, clock);
    if (what === "with packets") await queue.enqueue("x");
    using lock = await SenderLock.acquire(queue.path);
    const found: string[] = [];
    const stop = watchFiles(queue, lock, clock, ({ which }) => found.push(which));
    clock.advance(5000);
    assert.deepEqual(found, []);
    if (mishap === "replaced") {
      Deno.writeTextFileSync(dir.file("new"), "");
      Deno.renameSync(dir.file("new"), lock.path);
    } else Deno.removeSync(lock.path);
    // A second sender gets the lock of the new file; the first one stops.
    using _second = await SenderLock.acquire(queue.path);
    clock.advance(withinMs);
    assert.deepEqual(found, ["lock"]);
    clock.advance(5000);
    assert.deepEqual(found, ["lock"], "once");
    stop();
    assert.equal(clock.timers.size, 0);
  });
}

Deno.test("an empty queue is looked at once a second again from its next packet on", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await openHere(dir.queue, clock);
  using lock = await SenderLock.acquire(queue.path);
  const found: string[] = [];
  const stop = watchFiles(queue, lock, clock, ({ which }) => found.push(which));
  clock.advance(6000);
  Deno.removeSync(lock.path);
  clock.advance(1000);
  assert.deepEqual(found, [], "nothing is there that could be sent twice");
  const id = await queue.enqueue("x");
  // Also where it has left again within the second.
  await sendingSideOf(queue).removeThrough(id);
  clock.advance(1000);
  assert.deepEqual(found, ["lock"]);
  stop();
});

Deno.test("a lock file that cannot be looked at for a moment ends nothing", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await openHere(dir.queue, clock);
  await queue.enqueue("x");
  using lock = await SenderLock.acquire(queue.path);
  const found: string[] = [];
  const stop = watchFiles(queue, lock, clock, ({ which }) => found.push(which));
  const { lstatSync } = Deno;
  Deno.lstatSync = () => {
    throw new Error("Input/output error (os error 5)");
  };
  try {
    clock.advance(3000);
  } finally {
    Deno.lstatSync = lstatSync;
  }
  assert.deepEqual(found, []);
  Deno.removeSync(lock.path);
  clock.advance(1000);
  assert.deepEqual(found, ["lock"], "and it is looked at again");
  stop();
});

Deno.test("a queue's file that is gone comes before its lock file that is gone", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  await using queue = await openHere(dir.queue, clock);
  await queue.enqueue("x");
  using lock = await SenderLock.acquire(queue.path);
  const found: string[] = [];
  const stop = watchFiles(queue, lock, clock, ({ which }) => found.push(which));
  for (const end of ["", "-wal", "-shm", ".lock"]) Deno.removeSync(dir.queue + end);
  clock.advance(1000);
  assert.deepEqual(found, ["queue"]);
  stop();
});

function openHere(path: string, clock: ManualClock): Promise<OutboundQueue> {
  return OutboundQueue.open(path, { clock });
}

function isMisplaced(error: unknown): error is QueueFileError {
  return error instanceof QueueFileError && error.reason === "misplaced";
}

/** Runs a program to its end; returns what it wrote. */
function run(command: string, ...args: string[]): string {
  const { success, stdout, stderr } = new Deno.Command(command, { args }).outputSync();
  assert(success, text(stderr));
  return text(stdout);
}
