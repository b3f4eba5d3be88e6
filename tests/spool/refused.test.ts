/** What is refused: files that are none, names that are none, options that cannot be. */
import assert from "node:assert/strict";
import { OptionError, QueueFileError } from "../../src/base/errors.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { formatSpoolAddress, parseSpoolAddress } from "../../src/spool/address.ts";
import { spooledQueues, spoolInspector, spoolQueue } from "../../src/spool/spool.ts";
import { backUpSpool, checkSpool } from "../../src/spool/whole_file.ts";
import { FaultDriver, sha256 } from "../queue/helpers.ts";
import { TempDir } from "../support/temp_dir.ts";
import { openAll, rows, sql } from "./helpers.ts";

/** It fails for this reason, with these words, and leaves every byte. */
async function refused(
  file: string,
  open: () => Promise<unknown>,
  reason: string,
  words: RegExp,
): Promise<void> {
  const before = await sha256(file);
  await assert.rejects(
    open(),
    (error) =>
      error instanceof QueueFileError && error.reason === reason && words.test(error.message),
  );
  assert.equal(await sha256(file), before);
}

Deno.test("a file of one queue is no spool, and stays as it is", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue("x");
  }
  const words = /it holds one queue, and is no spool.*Give the path of a spool/s;
  for (
    const open of [
      () => spoolQueue(dir.queue, "a"),
      () => spoolInspector(dir.queue, "a"),
      () => spooledQueues(dir.queue),
    ]
  ) {
    await refused(dir.queue, open, "not-a-queue", words);
  }
  await using queue = await OutboundQueue.open(dir.queue);
  assert.equal(queue.stats().packets, 1);
});

Deno.test("a spool is no file of one queue, and stays as it is", async () => {
  using dir = new TempDir();
  {
    await using queue = await spoolQueue(dir.queue, "a");
    await queue.enqueue("x");
  }
  const words = new RegExp(`it is a spool.*Name one of them: spool:${dir.queue}#NAME`, "s");
  await refused(dir.queue, () => OutboundQueue.open(dir.queue), "not-a-queue", words);
  await refused(dir.queue, () => QueueInspector.open(dir.queue), "not-a-queue", words);
  await using queue = await spoolQueue(dir.queue, "a");
  assert.equal(queue.stats().packets, 1);
});

Deno.test("a spool that is open is refused as a queue all the same", async () => {
  using dir = new TempDir();
  await using queue = await spoolQueue(dir.queue, "a");
  await queue.enqueue("x");
  await assert.rejects(OutboundQueue.open(dir.queue), { reason: "not-a-queue" });
  assert.equal(await queue.enqueue("y"), 2);
});

Deno.test("a spool of a version that is not known, or with something in it that is not sendq's", async () => {
  using dir = new TempDir();
  const spoil = async (text: string): Promise<void> => {
    const file = dir.file(crypto.randomUUID());
    await (await spoolQueue(file, "a")).close();
    sql(file, text);
    const before = await sha256(file);
    try {
      await (await spoolQueue(file, "a")).close();
    } finally {
      assert.equal(await sha256(file), before, text);
    }
  };
  await assert.rejects(spoil("PRAGMA user_version = 6"), { reason: "newer-version" });
  await assert.rejects(spoil("DROP TABLE queues"), /queues is missing/);
  await assert.rejects(
    spoil("CREATE TRIGGER theirs AFTER INSERT ON packets BEGIN DELETE FROM packets; END"),
    /which sendq has not made/,
  );
  await assert.rejects(spoil("DELETE FROM state WHERE queue = 1"), /row of counts is missing/);
});

Deno.test("of a queue that contradicts itself the spool's list says so, and has the others", async () => {
  using dir = new TempDir();
  {
    await using queues = await openAll(dir.queue, ["a", "b", "c"]);
    for (const queue of queues.all) await queue.enqueue("x");
  }
  sql(dir.queue, "UPDATE state SET removed_through = 99, last_id = 100 WHERE queue = 2");
  const sound = { packets: 1, bytes: 1, deadPackets: 0, lastId: 1 };
  const list = await spooledQueues(dir.queue);
  const [a, b, c] = list;
  assert.deepEqual([a, c], [{ name: "a", ...sound }, { name: "c", ...sound }]);
  const { damage, ...counts } = b ?? {};
  assert.deepEqual(counts, { name: "b", packets: 0, bytes: 0, deadPackets: 0, lastId: 0 });
  assert.match(`${damage}`, /it counts no packets, and has some/);
  const { queues, problems } = await backUpSpool(dir.queue, dir.file("copy"));
  assert.deepEqual(queues, list);
  assert.equal(problems.every(({ words }) => words.startsWith("queue b: ")), true);
  assert(problems.length > 0);
  assert.deepEqual(await checkSpool(dir.file("copy")), problems);
  sql(dir.queue, "DELETE FROM state WHERE queue = 2");
  assert.match(`${(await spooledQueues(dir.queue))[1]?.damage}`, /row of counts is missing/);
});

Deno.test("what a spool says of itself", async () => {
  using dir = new TempDir();
  await (await openAll(dir.queue, ["b", "a"]))[Symbol.asyncDispose]();
  assert.deepEqual({ ...rows(dir.queue, "PRAGMA user_version")[0] as object }, { user_version: 5 });
  assert.deepEqual(
    rows(dir.queue, "SELECT number, name FROM queues ORDER BY number").map((row) => ({
      ...row as object,
    })),
    [{ number: 1, name: "b" }, { number: 2, name: "a" }],
  );
});

Deno.test("names and files that are none are refused by name, and make nothing", async () => {
  using dir = new TempDir();
  for (
    const name of ["", " ", "a b", "a#b", "a/b", "a\n", "x".repeat(65), "a\0", "%", "..\u200b"]
  ) {
    for (const open of [spoolQueue, spoolInspector]) {
      await assert.rejects(
        open(dir.queue, name),
        (error) => error instanceof OptionError && error.message.includes("name"),
        JSON.stringify(name),
      );
    }
  }
  for (const file of ["", ":memory:", `${dir.queue}\0`]) {
    await assert.rejects(
      spoolQueue(file, "a"),
      (error) => error instanceof OptionError && error.message.includes("file"),
    );
  }
  assert.deepEqual([...Deno.readDirSync(dir.path)], []);
  for (
    const name of ["a", "plc-17", "10.0.0.1:514", "[::1]:514", "müller@hall_2", "x".repeat(64)]
  ) {
    await (await spoolQueue(dir.queue, name)).close();
  }
  assert.equal((await spooledQueues(dir.queue)).length, 6);
});

Deno.test("an address is taken apart and put together again", () => {
  for (const address of ["spool:/var/lib/a.db#plc-17", "spool:a#b.db#[::1]:514"]) {
    assert.equal(formatSpoolAddress(parseSpoolAddress(address)), address);
  }
  assert.deepEqual(parseSpoolAddress("spool:a#b.db#c"), { file: "a#b.db", name: "c" });
  for (const address of ["/var/lib/a.db", "spool:a.db", "spool:#a", "spool:a.db#", "spool:a#b c"]) {
    assert.throws(() => parseSpoolAddress(address), OptionError);
  }
});

Deno.test("names differ by their case, and none is made by looking", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "A"]);
  await queues.all[0].enqueue("x");
  assert.deepEqual(queues.all.map(({ lastId }) => lastId), [1, 0]);
  await assert.rejects(
    spoolInspector(dir.queue, "b"),
    (error) => error instanceof OptionError && /has A, a/.test(error.message),
  );
  assert.equal((await spooledQueues(dir.queue)).length, 2);
});

Deno.test("what is the file's is the same for all of its queues that are open", async () => {
  using dir = new TempDir();
  {
    await using queue = await spoolQueue(dir.queue, "a", { durability: "process-crash" });
    for (
      const [name, options] of [
        ["durability", { durability: "power-loss" }],
        ["durability", {}],
        ["syncIn", { durability: "process-crash", syncIn: "threads" }],
        ["driver", { durability: "process-crash", driver: new FaultDriver() }],
      ] as const
    ) {
      await assert.rejects(
        spoolQueue(dir.queue, "b", options),
        (error) =>
          error instanceof OptionError && error.message.includes(name) &&
          /must be the same for all queues of a spool/.test(error.message),
      );
    }
    await using beside = await spoolQueue(dir.queue, "b", {
      durability: "process-crash",
      maxPackets: 7,
    });
    assert.deepEqual([queue.limits.maxPackets === 7, beside.limits.maxPackets], [false, 7]);
  }
  // Once all are closed, others may be.
  await using queue = await spoolQueue(dir.queue, "b", { durability: "power-loss" });
  assert.equal(await queue.enqueue("x"), 1);
});

Deno.test("no queue of a spool is opened once its file is gone, and none is made in its place", async () => {
  using dir = new TempDir();
  {
    await using queue = await spoolQueue(dir.queue, "a");
    await queue.enqueue("x");
    for (const end of ["", "-wal", "-shm"]) Deno.removeSync(dir.queue + end);
    await assert.rejects(
      spoolQueue(dir.queue, "b"),
      (error) => error instanceof QueueFileError && error.reason === "misplaced",
    );
    assert.throws(() => Deno.statSync(dir.queue), Deno.errors.NotFound);
    // What is in it can still be delivered.
    assert.equal((await queue.read(0, 100)).length, 1);
  }
  await using fresh = await spoolQueue(dir.queue, "b");
  assert.equal(await fresh.enqueue("x"), 1);
});
