import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { QueueFileError } from "../../src/base/errors.ts";
import { backUpQueue } from "../../src/queue/inspect/backup.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { repairQueue } from "../../src/queue/repair/repair.ts";
import { bytes } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { sha256 } from "./helpers.ts";
import { copyQueue, tamper } from "./inspector_helpers.ts";

/** A queue whose packets are all in its log, as after a crash. */
async function makeLog(dir: TempDir, path: string): Promise<void> {
  await using queue = await OutboundQueue.open(dir.file("work"));
  for (let i = 1; i <= 20; i++) await queue.enqueue(bytes(`packet ${i}`));
  copyQueue(dir.file("work"), path);
}

function hasReason(reason: string): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof QueueFileError, String(error));
    assert.equal(error.reason, reason);
    return true;
  };
}

Deno.test("a file that became empty: who only looks leaves its log alone, with all packets", async () => {
  using dir = new TempDir();
  await makeLog(dir, dir.queue);
  Deno.truncateSync(dir.queue);
  const before = await sha256(`${dir.queue}-wal`);
  await assert.rejects(QueueInspector.open(dir.queue), hasReason("misplaced"));
  await assert.rejects(backUpQueue(dir.queue, dir.file("copy")), hasReason("misplaced"));
  assert.equal(await sha256(`${dir.queue}-wal`), before);
  assert.equal(repairQueue(dir.queue, dir.file("saved")).packets, 20);
});

Deno.test("a file that became empty: without the right to see its log it is not touched either", async () => {
  using dir = new TempDir();
  await makeLog(dir, dir.queue);
  Deno.truncateSync(dir.queue);
  const before = await sha256(`${dir.queue}-wal`);
  const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", `--allow-read=${dir.queue}`, main, "list", "-q", dir.queue],
    stderr: "inherit",
  }).output();
  assert.equal(new TextDecoder().decode(stdout), "no packets\n");
  assert.equal(await sha256(`${dir.queue}-wal`), before);
});

Deno.test("a file that is refused keeps its log, too", async () => {
  using dir = new TempDir();
  await makeLog(dir, dir.file("log"));
  const database = new DatabaseSync(dir.file("log"));
  // Opened beside it, so that what is wrong stands in the log.
  database.exec("UPDATE state SET dead_packets = -1");
  copyQueue(dir.file("log"), dir.queue);
  database.close();
  const hashes = async () => [await sha256(dir.queue), await sha256(`${dir.queue}-wal`)];
  const before = await hashes();
  await assert.rejects(OutboundQueue.open(dir.queue), hasReason("corrupt"));
  assert.deepEqual(await hashes(), before);
});

Deno.test("a packet whose bytes are others is not read as a whole one", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let i = 1; i <= 3; i++) await queue.enqueue(bytes(`packet ${i}`));
  }
  tamper(dir.queue, "UPDATE packets SET payload = CAST('PACKET 2' AS BLOB) WHERE last_id = 2");
  using inspector = await QueueInspector.open(dir.queue);
  await assert.rejects(inspector.packet(2), hasReason("corrupt"));
  assert.equal((await inspector.packet(3))?.id, 3);
  const ids: number[] = [];
  await assert.rejects(async () => {
    for await (const { id } of inspector.packets({ payloadBytes: Infinity })) ids.push(id);
  }, hasReason("corrupt"));
  assert.deepEqual(ids, [1]);
  assert.deepEqual(await inspector.countPackets(), { packets: 3, bytes: 24 });
});

Deno.test("counts and times that no sendq has written are damage, in words", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue(bytes("packet"), { ttlMs: 1_000_000 });
  }
  tamper(dir.queue, "UPDATE expiry SET expires_at_ms = 9007199254740993");
  using inspector = await QueueInspector.open(dir.queue);
  const [problem] = await inspector.check();
  assert.match(problem?.words ?? "", /end with id 1 expire at 9007199254740993/);
  tamper(dir.queue, "UPDATE state SET last_id = 1, queued_bytes = 'x'");
  await assert.rejects(inspector.counts(), /queued_bytes is x/);
});
