/**
 * Where in a file a queue's rows lie. A file of one queue is all its own. In a spool each queue
 * has a window of the ids: its rows lie beside each other, in the order of its own ids, and need
 * no index for that. The rows' keys are those of the file; everything else, their checksum and
 * the counts in them, too, is in the queue's own ids, which begin with 1.
 *
 * @module
 */

import {
  LazyStatement,
  type SqliteDatabase,
  type SqliteStatement,
  type SqliteValue,
} from "../sqlite/driver.ts";

/** The part of a file that is one queue's. */
export interface IdWindow {
  /** The queue's number in the file. */
  readonly queue: number;
  /** What a key of the file is above the queue's id. */
  readonly baseId: number;
  /** The highest key. */
  readonly endId: number;
}

/** All of a file that has one queue. */
export const WHOLE_FILE: IdWindow = { queue: 0, baseId: 0, endId: Number.MAX_SAFE_INTEGER };

/** Ids of one queue: at a thousand packets a second they last for 34 years. */
const WINDOW_IDS = 2 ** 40;
/** The highest number of a queue whose keys JavaScript still counts exactly. */
export const MAX_QUEUE_NUMBER: number = 2 ** 13 - 1;

/** The window of a spool's queue; its number counts from 1. */
export function windowOf(queue: number): IdWindow {
  return { queue, baseId: queue * WINDOW_IDS, endId: (queue + 1) * WINDOW_IDS - 1 };
}

/** The highest id that a queue can give. */
export function lastIdIn({ baseId, endId }: IdWindow): number {
  return endId - baseId;
}

/**
 * A statement about the rows of one queue: `?1` is what to add to its ids, `?2` the highest key,
 * its own parameters begin with `?3`.
 */
export class WindowStatement implements SqliteStatement {
  readonly #statement: SqliteStatement;
  readonly #window: readonly [number, number];

  /**
   * @param database Where it runs.
   * @param sql One statement.
   * @param window The queue's.
   */
  constructor(database: SqliteDatabase, sql: string, { baseId, endId }: IdWindow) {
    this.#statement = new LazyStatement(database, sql);
    this.#window = [baseId, endId];
  }

  /** See {@linkcode SqliteStatement.run}. */
  run(params: readonly SqliteValue[]): void {
    this.#statement.run([...this.#window, ...params]);
  }

  /** See {@linkcode SqliteStatement.all}. */
  all(params: readonly SqliteValue[]): SqliteValue[][] {
    return this.#statement.all([...this.#window, ...params]);
  }
}
