/**
 * What a damaged file with several queues still has of one of them, as if it had a file of its
 * own.
 *
 * @module
 */

import type { IdWindow } from "../store/id_window.ts";
import type { DatabaseRows, Gap, Row } from "./sqlite_rows.ts";

/** Rows, and where some may be missing. */
export type FoundRows = Pick<DatabaseRows, "table" | "orphans">;

/** Those of one queue, under its own ids. */
export class QueueRows implements FoundRows {
  readonly #rows: FoundRows;
  readonly #window: IdWindow;

  /**
   * @param rows Those of the whole file.
   * @param window The queue's.
   */
  constructor(rows: FoundRows, window: IdWindow) {
    this.#rows = rows;
    this.#window = window;
  }

  /** See {@linkcode DatabaseRows.table}. */
  *table(root: number): Generator<Row | Gap> {
    for (const item of this.#rows.table(root)) {
      if ("key" in item) yield* this.#own(item);
      else yield* this.#ownPart(item);
    }
  }

  /** See {@linkcode DatabaseRows.orphans}. */
  *orphans(): Generator<Row> {
    for (const row of this.#rows.orphans()) yield* this.#own(row);
  }

  *#own(row: Row): Generator<Row> {
    const { queue, baseId, endId } = this.#window;
    if (row.key > baseId && row.key <= endId) yield { ...row, key: row.key - baseId };
    // Its counts, which a file of its own has under the number 0. No window has such low keys.
    else if (row.key === queue) yield { ...row, key: 0 };
  }

  *#ownPart({ after, through }: Gap): Generator<Gap> {
    const { baseId, endId } = this.#window;
    if (through <= baseId || after >= endId) return;
    yield {
      after: Math.max(0, after - baseId),
      through: through >= endId ? Infinity : through - baseId,
    };
  }
}
