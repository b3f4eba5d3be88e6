import { sendingSideOf } from "../../src/queue/queue.ts";
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { QueueFileError } from "../../src/base/errors.ts";
import type { OutboundQueue } from "../../src/queue/queue.ts";
import { lockPathOf } from "../../src/queue/lock_file.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { APPLICATION_ID } from "../../src/queue/store/schema.ts";
import { bytes, text } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { mountTmpfs, NO_TMPFS, remountReadOnly, sha256 } from "./helpers.ts";
import { inEachFile, inEachPlace, type Open } from "./threads.ts";

inEachPlace("the file, its log and its lock belong to their owner alone", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue);
  await queue.enqueue(bytes("x"));
  for (const suffix of ["", "-wal", "-shm"]) {
    assert.equal((Deno.statSync(dir.queue + suffix).mode ?? 0) & 0o777, 0o600, suffix);
  }
});

inEachFile("what the file says of itself", async (open) => {
  using dir = new TempDir();
  await (await open(dir.queue)).close();
  const database = new DatabaseSync(dir.queue, { readOnly: true });
  const pragma = (name: string) => Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  assert.deepEqual(
    ["application_id", "user_version", "auto_vacuum", "page_size", "journal_mode"].map(pragma),
    [APPLICATION_ID, 3, 2, 4096, "wal"],
  );
  database.close();
});

inEachPlace("an empty file is a fresh queue", async (open) => {
  using dir = new TempDir();
  Deno.writeFileSync(dir.queue, new Uint8Array(0));
  await using queue = await open(dir.queue);
  assert.equal(await queue.enqueue(bytes("x")), 1);
});

inEachPlace("a file that is no database is refused untouched", async (open) => {
  using dir = new TempDir();
  Deno.writeTextFileSync(dir.queue, "dear diary, ".repeat(1000));
  await refused(open, dir.queue, "not-a-queue");
  Deno.writeTextFileSync(dir.file("tiny"), "x");
  await refused(open, dir.file("tiny"), "not-a-queue");
});

inEachPlace("another program's database is refused untouched, its log too", async (open) => {
  using dir = new TempDir();
  for (const mode of ["delete", "wal"]) {
    const path = dir.file(mode);
    const database = new DatabaseSync(path);
    database.prepare(`PRAGMA journal_mode = ${mode}`).all();
    database.prepare("CREATE TABLE theirs (x)").run();
    database.prepare("INSERT INTO theirs VALUES (1)").run();
    database.close();
    await refused(open, path, "not-a-queue");
  }
  // A log that its writer's death has left behind must not be moved into the file.
  const live = new DatabaseSync(dir.file("wal"));
  live.prepare("INSERT INTO theirs VALUES (2)").run();
  Deno.copyFileSync(dir.file("wal"), dir.file("left"));
  Deno.copyFileSync(dir.file("wal-wal"), dir.file("left-wal"));
  live.close();
  const log = await sha256(dir.file("left-wal"));
  await refused(open, dir.file("left"), "not-a-queue");
  assert.equal(await sha256(dir.file("left-wal")), log);
});

inEachPlace("a newer version is refused untouched", async (open) => {
  using dir = new TempDir();
  await (await open(dir.queue)).close();
  const database = new DatabaseSync(dir.queue);
  database.prepare("PRAGMA user_version = 6").all();
  database.close();
  await refused(open, dir.queue, "newer-version");
});

inEachPlace(
  "a corrupt page: named on read, and the packets before it still come",
  async (open) => {
    using dir = new TempDir();
    const queue = await open(dir.queue);
    const payloads = Array.from({ length: 300 }, (_, i) => bytes(`${i} `.padEnd(1000, ".")));
    await queue.enqueueMany(payloads);
    await queue.close();
    const file = Deno.readFileSync(dir.queue);
    // The leaf that holds the row of packets 145 to 160: its header becomes nonsense.
    const needle = new TextDecoder("latin1").decode(file).indexOf("144 ....");
    const page = Math.floor(needle / 4096) * 4096;
    file.fill(0xff, page, page + 100);
    Deno.writeFileSync(dir.queue, file);
    const hash = await sha256(dir.queue);

    const damaged = await open(dir.queue);
    const read: string[] = [];
    let after = 0;
    const error = await (async () => {
      for (;;) {
        const packets = await damaged.read(after, 20_000);
        if (packets.length === 0) return undefined;
        read.push(...packets.map(({ payload }) => text(payload)));
        after = packets.at(-1)?.id ?? after;
      }
    })().catch((error: unknown) => error);
    assert(error instanceof QueueFileError && error.reason === "corrupt", String(error));
    assert(read.length >= 96 && read.length <= 144, `${read.length}`);
    assert.deepEqual(read, payloads.slice(0, read.length).map(text));
    // A removal that meets the page fails and removes nothing.
    await assert.rejects(sendingSideOf(damaged).removeThrough(200), { reason: "corrupt" });
    await damaged.close();
    assert.equal(await sha256(dir.queue), hash);
  },
);

inEachPlace(
  "a file cut short, or whose first page is damaged, is refused untouched",
  async (open) => {
    using dir = new TempDir();
    const queue = await open(dir.queue);
    await queue.enqueueMany(Array.from({ length: 300 }, () => new Uint8Array(1000)));
    await queue.close();
    const whole = Deno.readFileSync(dir.queue);
    Deno.writeFileSync(dir.file("cut"), whole.subarray(0, 4096 * 2));
    await refused(open, dir.file("cut"), "corrupt");
    const scratched = whole.slice();
    scratched.fill(0xff, 100, 400); // The schema's page, behind the file's header.
    Deno.writeFileSync(dir.file("scratched"), scratched);
    await refused(open, dir.file("scratched"), "corrupt");
  },
);

inEachPlace(
  "a directory, a missing directory, a file as directory, a link to nothing, a loop",
  async (open) => {
    using dir = new TempDir();
    await assert.rejects(open(dir.path), { reason: "not-a-queue" });
    await assert.rejects(open(dir.file("no/such.db")), { reason: "io" });
    Deno.writeTextFileSync(dir.file("plain"), "");
    await assert.rejects(open(dir.file("plain/x.db")), { reason: "not-a-queue" });
    Deno.symlinkSync("target.db", dir.file("link.db"));
    const nothing = / it is a link to a file that does not exist\. Mend the link\./;
    await assert.rejects(open(dir.file("link.db")), { reason: "io", message: nothing });
    Deno.symlinkSync("loop.db", dir.file("loop.db"));
    for (const name of ["loop.db", "x".repeat(300)]) {
      await assert.rejects(open(dir.file(name)), { reason: "not-a-queue" });
    }
    await assert.rejects(SenderLock.acquire(dir.file("loop.db")), { reason: "not-a-queue" });
    assert.throws(() => lockPathOf(dir.file("loop.db")), QueueFileError);
  },
);

Deno.test("a missing permission says which flags to add", async () => {
  using dir = new TempDir();
  const path = dir.queue;
  const module = new URL("../../src/queue/queue.ts", import.meta.url).href;
  Deno.writeTextFileSync(
    dir.file("open.ts"),
    `import { OutboundQueue } from "${module}";
     try { await OutboundQueue.open(Deno.args[0]); console.log("opened"); }
     catch (error) { console.log(error instanceof Deno.errors.NotCapable, error.message); }`,
  );
  for (const flags of [[], [`--allow-read=${path}`], [`--allow-write=${path}`]]) {
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--no-lock", ...flags, dir.file("open.ts"), path],
    }).output();
    const said = new TextDecoder().decode(stdout);
    const files = `${path},${path}.lock`;
    assert(said.startsWith("true "), said);
    assert(said.includes(`--allow-read=${files} --allow-write=${files}`), said);
  }
});

inEachPlace("a read-only filesystem: refused, and the packets are unharmed", async (open) => {
  using dir = new TempDir();
  const mounted = mountTmpfs(`${dir.path}/ro`, "size=4m");
  assert(typeof mounted !== "string");
  try {
    const path = `${dir.path}/ro/outbox.db`;
    const queue = await open(path);
    await queue.enqueue(bytes("kept"));
    await queue.close();
    const hash = await sha256(path);
    remountReadOnly(`${dir.path}/ro`);
    await assert.rejects(open(path), { reason: "read-only" });
    await assert.rejects(open(`${dir.path}/ro/new.db`), { reason: "read-only" });
    assert.equal(await sha256(path), hash);
  } finally {
    mounted.unmount();
  }
}, NO_TMPFS);

inEachPlace("a full disk: rejects, keeps what it has, works again with room", async (open) => {
  using dir = new TempDir();
  const mounted = mountTmpfs(`${dir.path}/small`, "size=2m");
  assert(typeof mounted !== "string");
  try {
    const path = `${dir.path}/small/outbox.db`;
    const ballast = `${dir.path}/small/ballast`;
    Deno.writeFileSync(ballast, new Uint8Array(1_000_000));
    const queue = await open(path);
    const stored: number[] = [];
    const reasons = new Set<string>();
    let failed = 0;
    for (let i = 0; i < 2000 && failed < 50; i++) {
      try {
        stored.push(await queue.enqueue(bytes(`packet ${i} `.padEnd(2000, "."))));
      } catch (error) {
        assert(error instanceof QueueFileError, String(error));
        reasons.add(error.reason);
        failed++;
      }
    }
    assert.equal(failed, 50);
    assert.deepEqual([...reasons], ["disk-full"]);
    assert.equal(queue.stats().packets, stored.length);
    const kept = await readIds(queue);
    assert.deepEqual(kept, stored);
    Deno.removeSync(ballast);
    const next = await queue.enqueue(bytes("there is room"));
    assert.equal(next, (stored.at(-1) ?? 0) + 1);
    await queue.close();
    const again = await open(path);
    assert.deepEqual(await readIds(again), [...stored, next]);
    await again.close();
  } finally {
    mounted.unmount();
  }
}, NO_TMPFS);

async function readIds(queue: OutboundQueue): Promise<number[]> {
  const ids: number[] = [];
  for (;;) {
    const packets = await queue.read(ids.at(-1) ?? 0, 50_000);
    if (packets.length === 0) return ids;
    ids.push(...packets.map(({ id }) => id));
  }
}

/** Opening fails for this reason and leaves every byte. */
async function refused(open: Open, path: string, reason: string): Promise<void> {
  const hash = await sha256(path);
  await assert.rejects(
    open(path),
    (error) => error instanceof QueueFileError && error.reason === reason && error.path !== "",
  );
  assert.equal(await sha256(path), hash);
}

inEachFile(
  "a name beside which SQLite can keep no files is refused, and nothing is made",
  async (open) => {
    using dir = new TempDir();
    await (await open(dir.file("q".repeat(247)))).close();
    const isTooLong = (error: unknown) =>
      error instanceof QueueFileError && error.reason === "not-a-queue" &&
      /its name is too long/.test(error.message);
    let deep = dir.file("deep");
    while (deep.length < 480) deep += `/${"d".repeat(30)}`;
    Deno.mkdirSync(deep, { recursive: true });
    const before = [...Deno.readDirSync(dir.file(""))].length;
    for (const path of [248, 251, 255, 256].map((bytes) => dir.file("ä" + "q".repeat(bytes - 2)))) {
      await assert.rejects(open(path), isTooLong);
    }
    await assert.rejects(open(`${deep}/${"q".repeat(504 - deep.length)}`), isTooLong);
    assert.equal([...Deno.readDirSync(dir.file(""))].length, before);
    assert.deepEqual([...Deno.readDirSync(deep)], []);
  },
);
