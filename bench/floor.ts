// deno-lint-ignore-file no-console
/**
 * What the machine can do at best, measured without any of sendq: rows in and
 * out of SQLite, syncs to the disk, bytes through loopback TCP. Prints one line
 * of JSON.
 *
 * ```sh
 * deno run -A bench/floor.ts '{"what":"rows","batch":100,"packetBytes":100}'
 * ```
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { DatabaseSync } from "node:sqlite";
import { type Quantiles, quantiles } from "./statistics.ts";

/** What to measure. */
export type FloorOptions =
  | {
    /**
     * One row a packet, `batch` rows a transaction, and in the same transaction
     * the range of rows that are `holdMs` old deleted; the fastest statements known.
     */
    readonly what: "rows";
    readonly batch: number;
    readonly packetBytes: number;
    /** Instead: rows of 16 KiB, each with as many packets as fit. @default {false} */
    readonly packed?: boolean;
    /** Writes each transaction's bytes to a sink on this port of loopback as well, in one write. */
    readonly sentTo?: number;
    /**
     * Packets come at this rate and not as fast as they can, in turns of a timer of a
     * millisecond, as those of a load do; what has come since the last is a transaction.
     */
    readonly packetsPerSecond?: number;
    readonly holdMs?: number;
    readonly durability?: "power-loss" | "process-crash";
    readonly measureMs?: number;
  }
  /** 4 KiB appended and fdatasync, so many times. @default {500} */
  | { readonly what: "sync"; readonly syncs?: number }
  /** 64 KiB writes to a sink. */
  | {
    readonly what: "tcp";
    readonly hostname?: string;
    readonly port: number;
    readonly measureMs?: number;
  };

/** What came of it. */
export interface FloorReport {
  /** Rows a second, milliseconds a sync, bytes a second. */
  readonly value: number;
  /** With `"rows"`: CPU seconds of this process for a million packets. */
  readonly cpuSecondsPerMillion?: number;
  /** With `"sync"`: milliseconds; `value` is the median. */
  readonly quantiles?: Quantiles;
}

const INSERT_WIDTHS = [64, 8, 1] as const;
const PACKED_ROW_BYTES = 16 * 1024;
/** Where a packet ends in its row. */
const PACKED_END_BYTES = 4;

async function rows(
  options: Extract<FloorOptions, { what: "rows" }>,
  directory: string,
): Promise<FloorReport> {
  const { batch, packetBytes, packetsPerSecond } = options;
  const { holdMs = 1000, durability = "power-loss", measureMs = 2000 } = options;
  const database = new DatabaseSync(`${directory}/floor.db`);
  for (
    const pragma of [
      "page_size = 4096",
      "auto_vacuum = incremental",
      "journal_mode = wal",
      `synchronous = ${durability === "power-loss" ? "full" : "normal"}`,
      "wal_autocheckpoint = 1000",
      `journal_size_limit = ${4 * 1024 * 1024}`,
      "temp_store = memory",
    ]
  ) database.prepare(`PRAGMA ${pragma}`).all();
  database.prepare("CREATE TABLE packets (id INTEGER PRIMARY KEY, at_ms INTEGER, payload BLOB)")
    .run();
  const begin = database.prepare("BEGIN IMMEDIATE");
  const commit = database.prepare("COMMIT");
  const remove = database.prepare("DELETE FROM packets WHERE id <= ?");
  const inserts = INSERT_WIDTHS.map((width) => {
    const values = Array.from({ length: width }, (_, i) => `(?1 + ${i}, ?2, ?${i + 3})`);
    return {
      width,
      statement: database.prepare(`INSERT INTO packets VALUES ${values.join(", ")}`),
    };
  });
  const payload = new Uint8Array(packetBytes).fill(0x2e);
  const insertSingly = (count: number) => {
    let left = count;
    for (const { width, statement } of inserts) {
      for (; left >= width; left -= width) {
        statement.run(lastId + 1, 1.7e12, ...Array<Uint8Array>(width).fill(payload));
        lastId += width;
      }
    }
  };
  const packedRow = new Uint8Array(PACKED_ROW_BYTES * (1 + PACKED_END_BYTES / packetBytes));
  const one = database.prepare("INSERT INTO packets VALUES (?, ?, ?)");
  const insertPacked = (count: number) => {
    for (let left = count; left > 0;) {
      const packets = Math.min(left, Math.max(1, Math.floor(PACKED_ROW_BYTES / packetBytes)));
      lastId += packets;
      left -= packets;
      one.run(lastId, 1.7e12, packedRow.subarray(0, packets * (packetBytes + PACKED_END_BYTES)));
    }
  };
  const insert = options.packed === true ? insertPacked : insertSingly;
  const connection = options.sentTo === undefined
    ? undefined
    : await Deno.connect({ hostname: "127.0.0.1", port: options.sentTo });
  const held: { id: number; atMs: number }[] = [];
  let lastId = 0;
  const startMs = performance.now();
  const fromMs = startMs + holdMs + 200;
  const untilMs = fromMs + measureMs;
  let first: { id: number; atMs: number; cpu: ReturnType<typeof cpuUsage> } | undefined;
  let nowMs = startMs;
  while (nowMs < untilMs) {
    let count = batch;
    if (packetsPerSecond !== undefined) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      nowMs = performance.now();
      count = Math.floor((nowMs - startMs) * packetsPerSecond / 1000) - lastId;
      if (count === 0) continue;
    }
    begin.run();
    insert(count);
    let throughId = 0;
    while (held[0] !== undefined && nowMs - held[0].atMs >= holdMs) {
      throughId = held.shift()?.id ?? 0;
    }
    if (throughId > 0) remove.run(throughId);
    commit.run();
    if (connection !== undefined) {
      const bytes = new Uint8Array(count * packetBytes);
      for (let offset = 0; offset < bytes.length;) {
        offset += await connection.write(bytes.subarray(offset));
      }
    }
    nowMs = performance.now();
    const newest = held.at(-1);
    // A twentieth of the hold time shares one entry, as in the sender.
    if (newest !== undefined && nowMs - newest.atMs < holdMs / 20) newest.id = lastId;
    else held.push({ id: lastId, atMs: nowMs });
    if (nowMs >= fromMs) first ??= { id: lastId, atMs: nowMs, cpu: cpuUsage() };
  }
  if (first === undefined || first.atMs === nowMs) throw new Error("too slow to be measured");
  const packets = lastId - first.id;
  const cpu = cpuUsage(first.cpu);
  connection?.close();
  database.close();
  return {
    value: packets / (nowMs - first.atMs) * 1000,
    cpuSecondsPerMillion: (cpu.user + cpu.system) / packets,
  };
}

function sync(syncs: number, directory: string): Quantiles {
  using file = Deno.openSync(`${directory}/sync`, { create: true, write: true });
  const block = new Uint8Array(4096).fill(1);
  const times: number[] = [];
  for (let i = 0; i < syncs; i++) {
    const startMs = performance.now();
    file.writeSync(block);
    file.syncDataSync();
    times.push(performance.now() - startMs);
  }
  return quantiles(times);
}

async function tcp(options: Extract<FloorOptions, { what: "tcp" }>): Promise<number> {
  const { hostname = "127.0.0.1", port, measureMs = 1000 } = options;
  const connection = await Deno.connect({ hostname, port });
  const chunk = new Uint8Array(64 * 1024);
  let writtenBytes = 0;
  const startMs = performance.now();
  while (performance.now() - startMs < measureMs) writtenBytes += await connection.write(chunk);
  const seconds = (performance.now() - startMs) / 1000;
  connection.close();
  return writtenBytes / seconds;
}

async function measure(options: FloorOptions): Promise<FloorReport> {
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  try {
    switch (options.what) {
      case "rows":
        return await rows(options, directory);
      case "sync": {
        const times = sync(options.syncs ?? 500, directory);
        return { value: times.p50, quantiles: times };
      }
      case "tcp":
        return { value: await tcp(options) };
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

if (import.meta.main) {
  const report = await measure(JSON.parse(Deno.args[0] ?? "{}"));
  console.log(JSON.stringify(report));
}
