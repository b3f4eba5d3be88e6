/**
 * Where in a file a queue's rows lie. A file of one queue is all its own. In a spool each queue
 * has a window of the ids: its rows lie beside each other, in the order of its own ids, and need
 * no index for that. Only the rows' keys are those of the file; everything else, checksums and
 * counts, too, is in the queue's own ids, which begin with 1.
 */

import {
  LazyStatement,
  type SqliteDatabase,
  type SqliteStatement,
  type SqliteValue,
} from "../sqlite/driver.ts";

/** The part of a file that is one queue's. */
export interface IdWindow {
  readonly queue: number;
  /** What a key of the file is above the queue's id. */
  readonly baseId: bigint;
  /** All keys above this one, */
  readonly belowId: bigint;
  /** and up to this one are the queue's. */
  readonly endId: bigint;
}

/**
 * All of a file that has one queue: also keys that no queue gives, so that it is noticed where
 * damage has made such ones.
 */
export const WHOLE_FILE: IdWindow = {
  queue: 0,
  baseId: 0n,
  belowId: 1n - 2n ** 63n,
  endId: 2n ** 63n - 1n,
};

/** A key without its last bits is the number of its queue. */
const WINDOW_BITS = 40n;
/** Ids of one queue: at a thousand packets a second they last for 34 years. */
export const WINDOW_IDS: bigint = 2n ** WINDOW_BITS;

/** In SQL, the number of the queue that a key is of; of `?1` that of a `WindowStatement`. */
export function queueOfKey(key: string): string {
  return `${key} >> ${WINDOW_BITS}`;
}

/** The highest id that a queue can give. */
export function lastIdIn({ queue }: IdWindow): number {
  return queue === 0 ? Number.MAX_SAFE_INTEGER : Number(WINDOW_IDS) - 1;
}

/**
 * A statement about the rows of one queue: `?1` is what to add to its ids; its keys are those
 * above `?2`, up to `?3`; its own parameters begin with `?4`. In a file of one queue these three
 * stand in the text and cost nothing; the queues of a spool share statements.
 */
export class WindowStatement extends LazyStatement {
  readonly #window: readonly SqliteValue[];

  constructor(database: SqliteDatabase, sql: string, window: IdWindow) {
    const values = [window.baseId, window.belowId, window.endId];
    const isShared = window !== WHOLE_FILE;
    super(
      database,
      isShared ? sql : sql.replaceAll(
        /\?([0-9]+)/g,
        (_, number) => String(values[Number(number) - 1] ?? `?${Number(number) - values.length}`),
      ),
    );
    this.#window = isShared ? values : [];
  }

  override run(params: readonly SqliteValue[]): void {
    super.run(this.#window.length === 0 ? params : [...this.#window, ...params]);
  }

  override all(params: readonly SqliteValue[]): SqliteValue[][] {
    return super.all(this.#window.length === 0 ? params : [...this.#window, ...params]);
  }
}

/** A `WindowStatement` where the text asks for one, and else a statement as it stands. */
export function statementFor(
  database: SqliteDatabase,
  sql: string,
  window: IdWindow,
): SqliteStatement {
  return sql.includes("?1") ? new WindowStatement(database, sql, window) : database.prepare(sql);
}
