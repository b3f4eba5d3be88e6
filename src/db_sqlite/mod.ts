/**
 * `@db/sqlite` as the library that reads and writes the queue's file, instead
 * of the `node:sqlite` that Deno brings.
 *
 * ```sh
 * deno run --allow-ffi --allow-env=DENO_SQLITE_PATH,DENO_SQLITE_LOCAL \
 *   --allow-net --allow-read --allow-write main.ts
 * ```
 *
 * What it costs: at its first import it downloads a shared library of its own,
 * and it needs `--allow-ffi` without a path, which undoes every other
 * permission.
 *
 * @example A queue on `@db/sqlite`
 * ```ts
 * import { OutboundQueue } from "@sendq/sendq";
 * import { dbSqlite } from "@sendq/sendq/db-sqlite";
 *
 * const path = `${await Deno.makeTempDir()}/outbox.db`;
 * await using queue = await OutboundQueue.open(path, { driver: dbSqlite });
 * await queue.enqueue(new TextEncoder().encode("temperature 21.5\n"));
 * ```
 *
 * @module
 */

import { Database } from "jsr:@db/sqlite@^0.13.0";
import type { SqliteDriver } from "../queue/sqlite/driver.ts";
import { driverOf } from "./adapter.ts";

export type { DiskReading } from "../queue/sqlite/disk_space.ts";
export type {
  SqliteDatabase,
  SqliteDriver,
  SqliteOpenOptions,
  SqliteStatement,
  SqliteValue,
} from "../queue/sqlite/driver.ts";

/**
 * The driver: hand it in as `driver`, to a queue or to a sender's `queueOptions`.
 *
 * @example
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import { dbSqlite } from "@sendq/sendq/db-sqlite";
 *
 * await using sender = await Sender.open({
 *   queue: `${await Deno.makeTempDir()}/outbox.db`,
 *   queueOptions: { driver: dbSqlite },
 *   remote: "tcp://127.0.0.1:4000",
 * });
 * ```
 */
export const dbSqlite: SqliteDriver = driverOf(Database);
