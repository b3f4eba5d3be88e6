/** A quota that is used up, which SQLite tells like a broken disk. */
import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SqliteCode, SqliteError } from "../../src/queue/sqlite/driver.ts";
import { isNoRoom, toFileError, whatOfWrite } from "../../src/queue/sqlite/file_error.ts";
import { TempDir } from "../support/temp_dir.ts";
import { Disk } from "./disk.ts";
import { FaultDriver, NO_TMPFS, unless } from "./helpers.ts";

/** As Deno says it: without a class, and without a code. */
const QUOTA_WORDS = "Disk quota exceeded (os error 122)";
const FAULT_WORDS = "Input/output error (os error 5)";

function codeOf(code: number, path: string): number {
  return whatOfWrite(code, path).code;
}

Deno.test("a quota that is used up is a full disk, whoever says so", () => {
  const errors = [
    new Error(QUOTA_WORDS),
    Object.assign(new Error("x"), { code: "ENOSPC" }),
    // What opening a queue says whose process was killed on a Btrfs that is full.
    new SqliteError(4618, "disk I/O error"),
  ];
  for (const error of errors) {
    const told = toFileError(error, "outbox.db");
    assert(told instanceof QueueFileError && told.reason === "disk-full", String(told));
  }
  for (const text of ["x", "Input/output error (os error 5)", "x (os error 1221)"]) {
    assert.equal(isNoRoom(new Error(text)), false, text);
  }
});

Deno.test("a write that has failed is a full disk where nothing else can be written either", () => {
  using dir = new TempDir();
  const tried = `${dir.queue}.room`;
  // It may be another queue.
  Deno.writeTextFileSync(tried, "x");
  assert.equal(codeOf(SqliteCode.IOERR_WRITE, dir.queue), SqliteCode.IOERR_WRITE);
  assert.equal(Deno.readTextFileSync(tried), "x");
  Deno.removeSync(tried);
  assert.equal(codeOf(SqliteCode.IOERR_WRITE, dir.queue), SqliteCode.IOERR_WRITE);
  assert.throws(() => Deno.statSync(tried), Deno.errors.NotFound);
  const { openSync } = Deno;
  let words = QUOTA_WORDS;
  Deno.openSync = (path, options) => {
    if (path === tried) throw new Error(words);
    return openSync(path, options);
  };
  try {
    assert.equal(codeOf(SqliteCode.IOERR_WRITE, dir.queue), SqliteCode.FULL);
    assert.equal(codeOf(SqliteCode.IOERR_FSYNC, dir.queue), SqliteCode.IOERR_FSYNC);
    words = FAULT_WORDS;
    assert.equal(codeOf(SqliteCode.IOERR_WRITE, dir.queue), SqliteCode.IOERR_WRITE);
  } finally {
    Deno.openSync = openSync;
  }
});

Deno.test({
  ...unless(NO_TMPFS, "the same on a disk that is full"),
  fn: () => {
    using disk = new Disk("size=1m");
    assert.equal(codeOf(SqliteCode.IOERR_WRITE, disk.queue), SqliteCode.IOERR_WRITE);
    disk.fillUp();
    assert.equal(codeOf(SqliteCode.IOERR_WRITE, disk.queue), SqliteCode.FULL);
    assert.throws(() => Deno.statSync(`${disk.queue}.room`), Deno.errors.NotFound);
  },
});

Deno.test({
  ...unless(NO_TMPFS, "a disk without an inode for SQLite's files is full, and not another user's"),
  fn: async () => {
    using disk = new Disk("size=32m,nr_inodes=8");
    await (await OutboundQueue.open(disk.queue)).close();
    const made: string[] = [];
    assert.throws(() => {
      for (;; made.push(`${disk.queue}.${made.length}`)) {
        Deno.writeTextFileSync(`${disk.queue}.${made.length}`, "");
      }
    }, { code: "ENOSPC" });
    await assert.rejects(OutboundQueue.open(disk.queue), { reason: "disk-full" });
    await assert.rejects(QueueInspector.open(disk.queue), /the disk is full/);
    for (const path of made) Deno.removeSync(path);
    await using queue = await OutboundQueue.open(disk.queue);
    assert.equal(await queue.enqueue("a"), 1);
  },
});

Deno.test("a file that cannot be opened, for whatever reason, is tried with the reserve", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue("a");
  }
  const lock = `${dir.queue}.lock`;
  const { size } = Deno.statSync(lock);
  const driver = new FaultDriver();
  // As on XFS without a free block, for a program that may not find out.
  driver.fault = () =>
    Deno.statSync(lock).size < size ? undefined : FaultDriver.error(SqliteCode.CANTOPEN);
  await using queue = await OutboundQueue.open(dir.queue, { driver });
  assert.equal(queue.stats().packets, 1);
});

Deno.test("a removal whose write or sync fails tries the reserve, and no other error does", async () => {
  const IOERR_READ = 266;
  for (const code of [SqliteCode.IOERR_WRITE, SqliteCode.IOERR_FSYNC, IOERR_READ]) {
    using dir = new TempDir();
    const driver = new FaultDriver();
    await using queue = await OutboundQueue.open(dir.queue, { driver });
    await queue.enqueueMany(["a", "b"]);
    const side = sendingSideOf(queue);
    let isReserved = true;
    side.useSpareSpace({
      releaseReserve() {
        const wasReserved = isReserved;
        isReserved = false;
        driver.heal();
        return wasReserved;
      },
      restoreReserve: () => isReserved = true,
    });
    driver.failNext("COMMIT", code, Infinity);
    if (code === IOERR_READ) {
      await assert.rejects(side.removeThrough(2), { reason: "io" });
      assert.equal(isReserved, true);
      driver.heal();
    } else {
      await side.removeThrough(2);
      assert.equal(queue.removedThroughId, 2);
    }
  }
});

/** Whether a process can be run whose files may not grow. */
const NO_LIMITS = await (async () => {
  try {
    const { success } = await new Deno.Command("sh", {
      args: ["-c", "trap '' XFSZ && ulimit -f 8192"],
    }).output();
    return success ? undefined : "takes a shell with ulimit";
  } catch {
    return "takes a shell with ulimit";
  }
})();

Deno.test({
  ...unless(NO_LIMITS, "whoever has used up a quota is told so, and that nothing was stored"),
  fn: async () => {
    using dir = new TempDir();
    const script = dir.file("script.ts");
    const queue = new URL("../../src/queue/queue.ts", import.meta.url).href;
    Deno.writeTextFileSync(
      script,
      `const { OutboundQueue } = await import(${JSON.stringify(queue)});
      const { openSync } = Deno;
      const words = ${JSON.stringify({ quota: QUOTA_WORDS, other: FAULT_WORDS })}[Deno.args[0]];
      Deno.openSync = (path, options) => {
        if (words !== undefined && path.endsWith(".room")) throw new Error(words);
        return openSync(path, options);
      };
      const opened = await OutboundQueue.open(Deno.args[1], { durability: "process-crash" });
      try {
        for (;;) await opened.enqueue(new Uint8Array(100_000));
      } catch ({ reason, outcome, message }) {
        console.log(reason, outcome, message.includes("EFBIG"));
      }
      Deno.exit();`,
    );
    for (
      const [fault, told] of [
        ["quota", "disk-full nothing-stored false"],
        ["other", "io unknown false"],
        ["none", "disk-full nothing-stored true"],
      ]
    ) {
      // To SQLite a file that may not grow is a write that has failed, as a quota is.
      const limited = 'trap \'\' XFSZ; ulimit -f 8192; exec "$0" "$@"';
      const { stdout, stderr } = await new Deno.Command("sh", {
        args: [
          ...["-c", limited, Deno.execPath(), "run", "--quiet", "--no-lock", "--no-check"],
          ...["--no-prompt", "--allow-read", "--allow-write", script, `${fault}`],
          dir.file(`${fault}.db`),
        ],
      }).output();
      const text = new TextDecoder();
      assert.equal(text.decode(stdout).trim(), told, text.decode(stderr));
    }
  },
});
