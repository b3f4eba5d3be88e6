/** Looking into a spool without the right to change it. */

import { systemClock } from "../base/clock.ts";
import { OptionError } from "../base/errors.ts";
import {
  type InspectOptions,
  type Inspector,
  resolveInspectOptions,
} from "../queue/inspect/inspection.ts";
import { inspectIn } from "../queue/inspect/inspector.ts";
import { openError, openForLooking } from "../queue/inspect/open_for_looking.ts";
import { onceNotBusy } from "../queue/sqlite/busy.ts";
import { SqliteCode, type SqliteDatabase, SqliteError } from "../queue/sqlite/driver.ts";
import { queueFileError } from "../queue/sqlite/file_error.ts";
import type { SenderNotice } from "../queue/lock_file.ts";
import { recognise, SPOOL_VERSION, versionOf } from "../queue/store/schema.ts";
import { ContradictionError, StateTable } from "../queue/store/state_table.ts";
import { fileError } from "../queue/store/transaction.ts";
import { checkSpoolAddress, formatSpoolAddress } from "./address.ts";
import { findQueue, queuesIn, windowOf } from "./queue_names.ts";
import { readSpoolNotice } from "./reports.ts";
import { withSharedStatements } from "./shared_statements.ts";

/** Of a file that is still empty. */
const NOWHERE = windowOf(1);

/**
 * Opens a queue of a spool for looking; see `QueueInspector`.
 *
 * @param file The spool.
 * @param given The queue's name in it.
 * @param options See `InspectOptions`.
 * @throws {OptionError} The spool has no such queue.
 * @throws {QueueFileError} The file is no spool, or so damaged that it is not known for one.
 * @throws {Deno.errors.NotCapable} The permission to read it is missing.
 */
export async function spoolInspector(
  file: string,
  given: string,
  options: InspectOptions = {},
): Promise<Inspector> {
  const { name } = checkSpoolAddress({ file, name: given });
  return await inspectIn(file, options, (database, path, version) => {
    if (version === 0) return { path: formatSpoolAddress({ file: path, name }), window: NOWHERE };
    const queue = findQueue(database, name);
    if (queue === undefined) {
      const known = queuesIn(database).map(({ name }) => name);
      throw new OptionError(
        "name",
        name,
        `must be a queue of this spool, which has ${listed(known)}`,
      );
    }
    return { path: formatSpoolAddress({ file: path, name }), window: windowOf(queue) };
  });
}

/**
 * A queue of a spool, and what the file counts of it.
 *
 * @category Queue
 */
export interface SpooledQueue {
  /** Its name. */
  readonly name: string;
  /** Packets in it. */
  readonly packets: number;
  /** Their payload bytes. */
  readonly bytes: number;
  /** Its dead letters. */
  readonly deadPackets: number;
  /** The highest id ever given. */
  readonly lastId: number;
  /** What is wrong with what the file counts of it, in words: all of that is 0 here then. */
  readonly damage?: string;
}

/**
 * The queues of a spool, in the order of their names, those that are damaged among them.
 *
 * @param file The spool.
 * @param options See `InspectOptions`.
 * @throws {QueueFileError} The file is no spool, its list of queues is damaged, or it stayed locked.
 * @throws {Deno.errors.NotCapable} The permission to read it is missing.
 */
export async function spooledQueues(
  file: string,
  options: InspectOptions = {},
): Promise<SpooledQueue[]> {
  return await lookInto(
    file,
    options,
    (database) =>
      queuesIn(database).map(({ name, queue }) => {
        try {
          const state = new StateTable(database, windowOf(queue));
          const { packets, bytes, deadPackets, lastId } = state.read();
          return { name, packets, bytes, deadPackets, lastId };
        } catch (error) {
          // One queue's trouble is its own.
          const damage = damageOf(error);
          return { name, packets: 0, bytes: 0, deadPackets: 0, lastId: 0, damage };
        }
      }),
  );
}

/** @throws The error, where it does not say that something is damaged. */
function damageOf(error: unknown): string {
  const isDamage = error instanceof ContradictionError ||
    (error instanceof SqliteError && error.primaryCode === SqliteCode.CORRUPT);
  if (!isDamage) throw error;
  return error.message;
}

/**
 * What a queue's sender says of itself, in whichever process it runs.
 *
 * @returns Reads it; `undefined`: no sender has the queue.
 * @throws {QueueFileError} The file is no spool, is damaged or stayed locked.
 */
export async function noticesIn(
  file: string,
  name: string,
): Promise<() => Promise<SenderNotice | undefined>> {
  const look = () => lookInto(file, {}, (database) => findQueue(database, name));
  let queue = await look();
  return async () => {
    // Somebody may have made it since.
    queue ??= await look();
    return queue === undefined ? undefined : await readSpoolNotice(file, queue, systemClock);
  };
}

/** Whether a file is a spool, as far as that can be seen; nothing is wrong where it is none. */
export async function isSpool(file: string): Promise<boolean> {
  const { driver, clock, busyTimeoutMs } = resolveInspectOptions({});
  try {
    return await onceNotBusy(clock, busyTimeoutMs, () => {
      let database: SqliteDatabase | undefined;
      try {
        database = openForLooking(file, driver).database;
        return versionOf(database, file) === SPOOL_VERSION;
      } catch (error) {
        throw fileError(error, file);
      } finally {
        database?.close();
      }
    });
  } catch {
    return false;
  }
}

/**
 * Looks into a spool in one transaction, once it is not locked.
 *
 * @throws {QueueFileError} The file is no spool, is damaged or stayed locked.
 */
export async function lookInto<T>(
  file: string,
  options: InspectOptions,
  look: (database: SqliteDatabase) => T,
): Promise<T> {
  const { driver, clock, busyTimeoutMs } = resolveInspectOptions(options);
  return await onceNotBusy(clock, busyTimeoutMs, () => {
    let database: SqliteDatabase | undefined;
    try {
      const opened = openForLooking(file, driver);
      database = opened.database;
      if (recognise(database, opened.path, { kind: "spool" }) === 0) {
        throw queueFileError("not-a-queue", file, "there is nothing in it yet", {
          advice: "A spool is made by whoever stores into one of its queues first.",
        });
      }
      const shared = withSharedStatements(database);
      shared.prepare("BEGIN").run([]);
      return look(shared);
    } catch (error) {
      throw fileError(openError(error, file), file);
    } finally {
      database?.close();
    }
  });
}

function listed(names: readonly string[]): string {
  if (names.length === 0) return "none";
  const shown = names.slice(0, 5).join(", ");
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}
