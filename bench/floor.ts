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

import { DatabaseSync } from "node:sqlite";
import { median } from "./statistics.ts";

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
    readonly holdMs?: number;
    readonly durability?: "power-loss" | "process-crash";
    readonly measureMs?: number;
  }
  /** 4 KiB appended and fdatasync. */
  | { readonly what: "sync" }
  /** 64 KiB writes to a sink. */
  | {
    readonly what: "tcp";
    readonly hostname?: string;
    readonly port: number;
    readonly measureMs?: number;
  };

/** Rows a second, milliseconds a sync, bytes a second. */
export interface FloorReport {
  readonly value: number;
}

const INSERT_WIDTHS = [64, 8, 1] as const;

function rows(options: Extract<FloorOptions, { what: "rows" }>, directory: string): number {
  const { batch, packetBytes, holdMs = 1000, durability = "power-loss", measureMs = 2000 } =
    options;
  const database = new DatabaseSync(`${directory}/floor.db`);
  for (
    const pragma of [
      "page_size = 4096",
      "auto_vacuum = incremental",
      "journal_mode = wal",
      `synchronous = ${durability === "power-loss" ? "full" : "normal"}`,
      "wal_autocheckpoint = 1000",
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
  const held: { id: number; atMs: number }[] = [];
  let lastId = 0;
  const startMs = performance.now();
  const fromMs = startMs + holdMs + 200;
  const untilMs = fromMs + measureMs;
  let firstId: number | undefined;
  let nowMs = startMs;
  while (nowMs < untilMs) {
    begin.run();
    let left = batch;
    for (const { width, statement } of inserts) {
      for (; left >= width; left -= width) {
        statement.run(lastId + 1, 1.7e12, ...Array<Uint8Array>(width).fill(payload));
        lastId += width;
      }
    }
    let throughId = 0;
    while (held[0] !== undefined && nowMs - held[0].atMs >= holdMs) {
      throughId = held.shift()?.id ?? 0;
    }
    if (throughId > 0) remove.run(throughId);
    commit.run();
    nowMs = performance.now();
    const newest = held.at(-1);
    // A twentieth of the hold time shares one entry, as in the sender.
    if (newest !== undefined && nowMs - newest.atMs < holdMs / 20) newest.id = lastId;
    else held.push({ id: lastId, atMs: nowMs });
    if (nowMs >= fromMs) firstId ??= lastId;
  }
  database.close();
  return (lastId - (firstId ?? 0)) / (untilMs - fromMs) * 1000;
}

function sync(directory: string): number {
  using file = Deno.openSync(`${directory}/sync`, { create: true, write: true });
  const block = new Uint8Array(4096).fill(1);
  const times: number[] = [];
  for (let i = 0; i < 500; i++) {
    const startMs = performance.now();
    file.writeSync(block);
    file.syncDataSync();
    times.push(performance.now() - startMs);
  }
  return median(times);
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

async function measure(options: FloorOptions): Promise<number> {
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  try {
    switch (options.what) {
      case "rows":
        return rows(options, directory);
      case "sync":
        return sync(directory);
      case "tcp":
        return await tcp(options);
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

if (import.meta.main) {
  const report: FloorReport = { value: await measure(JSON.parse(Deno.args[0] ?? "{}")) };
  console.log(JSON.stringify(report));
}
