/**
 * Queues with all there is to look at, and their files damaged.
 */
import { DatabaseSync } from "node:sqlite";
import type { QueueCounts } from "../../src/queue/inspect/inspection.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { COUNTS_SQL } from "../../src/queue/store/state_table.ts";

/** Numbers from 0 to 1, the same for the same seed. */
export function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271 + 11) % 2147483647;
    return state / 2147483647;
  };
}

/** Packets that are not alike. */
export function randomPackets(random: () => number, sizes: readonly number[]): Uint8Array[] {
  return sizes.map((size) => Uint8Array.from({ length: size }, () => random() * 256));
}

/** Everything in a queue that a repair has to bring along. */
export interface Content {
  readonly counts: QueueCounts;
  readonly packets: ReadonlyMap<number, string>;
  readonly letters: ReadonlyMap<number, string>;
}

/** Reads it, through SQLite. */
export async function contentOf(path: string): Promise<Content> {
  using inspector = await QueueInspector.open(path);
  const packets = new Map<number, string>();
  const letters = new Map<number, string>();
  for await (const { id, payload, ...rest } of inspector.packets({ payloadBytes: Infinity })) {
    const { enqueuedAtMs, expiresAtMs } = rest;
    packets.set(id, `${enqueuedAtMs} ${expiresAtMs} ${payload.toBase64()}`);
  }
  for await (const { id, payload, ...rest } of inspector.deadLetters({ payloadBytes: Infinity })) {
    const { enqueuedAtMs, diedAtMs, reason, sent, attempts } = rest;
    const facts = [enqueuedAtMs, diedAtMs, reason, sent, attempts].join(" ");
    letters.set(id, `${facts} ${payload.toBase64()}`);
  }
  return { counts: await inspector.counts(), packets, letters };
}

/** A queue with runs, large packets, holes, times of expiry and dead letters. */
export async function makeQueue(path: string, seed: number): Promise<void> {
  const random = randomOf(seed);
  await using queue = await OutboundQueue.open(path, { durability: "process-crash" });
  for (let i = 0; i < 60; i++) {
    const sizes = i % 12 === 5
      ? [30_000]
      : Array.from({ length: [1, 3, 150, 40][i % 4] ?? 1 }, () => 20 + Math.floor(random() * 90));
    await queue.enqueueMany(randomPackets(random, sizes), {
      ttlMs: i % 5 === 0 ? 1_000_000_000 : undefined,
    });
  }
  sendingSideOf(queue).rememberSent(900);
  await sendingSideOf(queue).removeThrough(100);
  for (const id of [110, 500, 501, 900, 2000]) await sendingSideOf(queue).giveUp(id, 3);
  await queue.removePackets({ firstId: 700, lastId: 720 });
}

/** Copies a queue with its log, as it is at this moment. */
export function copyQueue(from: string, to: string): void {
  for (const end of ["", "-wal"]) {
    try {
      Deno.copyFileSync(from + end, to + end);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** A queue's file and what stands beside it go away. */
export function removeQueue(path: string): void {
  for (const end of ["", "-wal", "-shm"]) {
    try {
      Deno.removeSync(path + end);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** Puts noise over a part of a file. */
export function overwrite(path: string, random: () => number, from: number, length: number): void {
  using file = Deno.openSync(path, { write: true });
  file.seekSync(from, Deno.SeekMode.Start);
  file.writeSync(Uint8Array.from({ length }, () => random() * 256));
}

/** What a page is used for, by SQLite's own account; absent: for nothing. */
export interface PageUse {
  readonly table: string;
  readonly kind: string;
}

/** The use of each page. */
export function pageUses(path: string): Map<number, PageUse> {
  const database = new DatabaseSync(path, { readOnly: true });
  const rows = database.prepare("SELECT name, pageno, pagetype FROM dbstat").all();
  database.close();
  return new Map(
    rows.map((row) => [
      Number(row["pageno"]),
      { table: String(row["name"]), kind: String(row["pagetype"]) },
    ]),
  );
}

/** Runs SQL that no queue would run. */
export function tamper(path: string, ...statements: readonly string[]): void {
  const database = new DatabaseSync(path);
  for (const sql of statements) database.prepare(sql).run();
  database.close();
}

/** Turns a queue into one that version 2 has made. */
export function asVersion2(path: string): void {
  const counts = "queued_packets, queued_bytes, last_id, removed_through, sent_through, " +
    "dropped_packets, dropped_bytes, dead_packets, dead_bytes, expired_packets, gave_up_packets";
  tamper(
    path,
    "DROP INDEX packets_by_queue",
    `CREATE TABLE counts AS SELECT ${counts} FROM (${
      COUNTS_SQL.replaceAll("?1", "0").replaceAll("?2", "0").replaceAll("?3", "9e15")
        .replaceAll("?4", "0")
    })`,
    "DROP TABLE state",
    `CREATE TABLE state (
     one INTEGER PRIMARY KEY CHECK (one = 1),
     packets INTEGER NOT NULL,
     bytes INTEGER NOT NULL,
     last_id INTEGER NOT NULL,
     removed_through INTEGER NOT NULL,
     sent_through INTEGER NOT NULL,
     dropped_packets INTEGER NOT NULL,
     dropped_bytes INTEGER NOT NULL
   )`,
    ...["dead_packets", "dead_bytes", "expired_packets", "gave_up_packets"]
      .map((column) => `ALTER TABLE state ADD COLUMN ${column} INTEGER NOT NULL DEFAULT 0`),
    "INSERT INTO state SELECT 1, * FROM counts",
    "DROP TABLE counts",
    ...["queue", "crc", "stored_bytes", "queued_packets", "queued_bytes", "removed_through"]
      .map((column) => `ALTER TABLE packets DROP COLUMN ${column}`),
    "ALTER TABLE packets DROP COLUMN sent_through",
    "ALTER TABLE dead_letters DROP COLUMN queue",
    "ALTER TABLE dead_letters DROP COLUMN crc",
    "ALTER TABLE dead_letters DROP COLUMN words",
    "PRAGMA user_version = 2",
  );
}

/** Turns a queue into one that the version before dead letters has made. */
export function asVersion1(path: string): void {
  asVersion2(path);
  tamper(
    path,
    "DROP TABLE expiry",
    "DROP TABLE dead_letters",
    ...["dead_packets", "dead_bytes", "expired_packets", "gave_up_packets"]
      .map((column) => `ALTER TABLE state DROP COLUMN ${column}`),
    "PRAGMA user_version = 1",
  );
}
