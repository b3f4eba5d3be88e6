import type { IdWindow } from "../store/id_window.ts";
import type { DatabaseRows, Gap, Row } from "./sqlite_rows.ts";

/** Rows, and where some may be missing. */
export type FoundRows = Pick<DatabaseRows, "table" | "orphans">;

/** Those of one queue in a damaged file of several, as if it had a file of its own. */
export class QueueRows implements FoundRows {
  readonly #rows: FoundRows;
  readonly #window: IdWindow;

  constructor(rows: FoundRows, window: IdWindow) {
    this.#rows = rows;
    this.#window = window;
  }

  *table(root: number): Generator<Row | Gap> {
    for (const item of this.#rows.table(root)) {
      if ("key" in item) yield* this.#own(item);
      else yield* this.#ownPart(item);
    }
  }

  *orphans(): Generator<Row> {
    for (const row of this.#rows.orphans()) yield* this.#own(row);
  }

  *#own(row: Row): Generator<Row> {
    const { queue, belowId, endId } = this.#window;
    if (row.key > belowId && row.key <= endId) yield { ...row, key: this.#idOf(row.key) };
    // Its counts, which a file of its own has under the number 0. No window has such low keys.
    else if (row.key === queue) yield { ...row, key: 0 };
  }

  *#ownPart({ after, through }: Gap): Generator<Gap> {
    const { belowId, endId } = this.#window;
    if (through <= belowId || after >= endId) return;
    yield {
      after: Math.max(0, this.#idOf(after)),
      through: through >= endId ? Infinity : this.#idOf(through),
    };
  }

  #idOf(key: number): number {
    return key - Number(this.#window.baseId);
  }
}
