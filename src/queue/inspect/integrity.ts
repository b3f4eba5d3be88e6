/**
 * Whether a queue's file is sound: SQLite's own check of its pages, then the rules that the
 * rows keep among each other. Each check goes on where another one had to give up.
 */

import { messageOf } from "../../base/errors.ts";
import { isSqliteError, SqliteCode, type SqliteValue } from "../sqlite/driver.ts";
import { crcOf, endsOf } from "../store/row.ts";
import { SPOOL_VERSION } from "../store/schema.ts";
import { isDeathReason } from "../store/types.ts";
import { COUNT_COLUMNS, COUNTS_SQL } from "../store/state_table.ts";

/**
 * Something that is wrong in a queue's file.
 *
 * @category Queue
 */
export interface QueueProblem {
  /**
   * - `"pages"`: SQLite cannot read a page, or pages contradict each other
   * - `"counts"`: the file's counts disagree with its rows or with each other
   * - `"packets"`: a row of packets contradicts itself or another
   * - `"dead-letters"`: a dead letter contradicts itself or the queue
   */
  readonly kind: "pages" | "counts" | "packets" | "dead-letters";
  /** What is wrong, in one sentence without its full stop. */
  readonly words: string;
}

/**
 * Runs one SELECT or PRAGMA. Where it has `?1`, the first three parameters are those of
 * `WindowStatement`, and its own begin with `?4`.
 */
export type Select = (sql: string, params: readonly SqliteValue[]) => SqliteValue[][];

interface Counted {
  packets: number;
  bytes: number;
  /** The highest id. */
  lastId: number;
  /** Whether all of it could be read. */
  complete: boolean;
}

const ROWS = 256;

export interface CheckOptions {
  readonly version: number;
  /** The queue's number in the file. */
  readonly queue: number;
  /** After how many problems to stop. */
  readonly maxProblems: number;
  /** Whether its pages are looked at: no others, or not again. @default {"too"} */
  readonly pages?: "too" | "alone" | "known";
}

/** Checks a queue's file; `select` reads all of it in one transaction. */
export function checkFile(select: Select, options: CheckOptions): QueueProblem[] {
  const check = new Check(select, options);
  check.run();
  return check.problems;
}

class Check {
  readonly problems: QueueProblem[] = [];
  readonly #select: Select;
  readonly #options: CheckOptions;

  constructor(select: Select, options: CheckOptions) {
    this.#select = select;
    this.#options = options;
  }

  get #version(): number {
    return this.#options.version;
  }

  run(): void {
    const { pages } = this.#options;
    if (pages !== "known") this.#checkPages();
    if (pages === "alone") return;
    const state = this.#try("counts", "the counts cannot be read", () => this.#readState());
    const value = (name: string) => numberOf(state?.get(name)) ?? 0;
    const removedThrough = value("removed_through");
    const packets = this.#checkPackets(removedThrough);
    if (state !== undefined) this.#checkCounts(value, packets);
    if (this.#version < 2) return;
    this.#try("packets", "times of expiry cannot be read", () => this.#checkExpiry());
    const letters = this.#checkDeadLetters(removedThrough);
    if (state !== undefined) this.#checkDeadCounts(value, letters);
  }

  /** All that `quick_check` looks at, and the one index besides. */
  #checkPages(): void {
    const sql = `PRAGMA integrity_check(${this.#options.maxProblems})`;
    this.#try("pages", "the pages cannot be checked", () => {
      for (const [words] of this.#select(sql, [])) {
        const text = String(words).replaceAll(/\s+/g, " ");
        if (text !== "ok") this.#say("pages", text);
      }
    });
  }

  #say(kind: QueueProblem["kind"], words: string): void {
    if (this.problems.length < this.#options.maxProblems) this.problems.push({ kind, words });
  }

  #try<T>(kind: QueueProblem["kind"], words: string, work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      // A locked file is not a damaged one.
      if (isSqliteError(error, SqliteCode.BUSY, SqliteCode.LOCKED)) throw error;
      this.#say(kind, `${words}: ${messageOf(error)}`);
      return undefined;
    }
  }

  #readState(): Map<string, SqliteValue> | undefined {
    const { queue } = this.#options;
    const [counted] = this.#version < SPOOL_VERSION
      ? this.#select("SELECT count(*) FROM state", [])
      : this.#select("SELECT count(*) FROM state WHERE queue = ?", [queue]);
    const rows = numberOf(counted?.[0]);
    if (rows !== 1) {
      this.#say("counts", `there are ${rows} rows of counts, and not 1`);
      return undefined;
    }
    const [names, row] = this.#version < 3
      ? [this.#columnsOf("state"), this.#select("SELECT * FROM state", [])[0]]
      : [COUNT_COLUMNS, this.#select(COUNTS_SQL, [queue])[0]];
    const state = new Map(names.map((name, i) => [name, row?.[i] ?? null]));
    for (const [name, value] of state) {
      const number = numberOf(value);
      const isOffset = name === "clock_offset_ms";
      if (number === undefined || (number < 0 && !isOffset)) {
        this.#say("counts", `${name} is ${String(value)}`);
      }
    }
    return state;
  }

  /** What versions 1 and 2 called `packets` and `bytes` is called as in version 3. */
  #columnsOf(table: string): string[] {
    return this.#select("SELECT name FROM pragma_table_info(?)", [table])
      .map((row) => String(row[0]).replace(/^(packets|bytes)$/, "queued_$1"));
  }

  /**
   * Goes through a table by ascending id.
   *
   * @param kind What its rows are.
   * @param sql Selects them, the id first; `?4` is the id before them, `?5` how many.
   * @param count Looks at a row, given the id before it, and counts it.
   */
  #walk(
    kind: "packets" | "dead-letters",
    sql: string,
    count: (row: SqliteValue[], id: number, counted: Counted) => void,
  ): Counted {
    const counted: Counted = { packets: 0, bytes: 0, lastId: 0, complete: false };
    for (;;) {
      const words = `${kind.replace("-", " ")} behind id ${counted.lastId} cannot be read`;
      const rows = this.#try(kind, words, () => this.#select(sql, [counted.lastId, ROWS]));
      if (rows === undefined) return counted;
      if (rows.length === 0) return { ...counted, complete: true };
      for (const row of rows) {
        const id = Number(row[0]);
        // A damaged tree may give the same rows again and again.
        if (id <= counted.lastId) return counted;
        count(row, id, counted);
        counted.lastId = id;
      }
    }
  }

  #checkPackets(removedThrough: number): Counted {
    const sql = "SELECT last_id - ?1, ends, length(payload), enqueued_at_ms, typeof(payload) " +
      "FROM packets WHERE last_id > ?1 + ?4 AND last_id <= ?3 ORDER BY last_id LIMIT ?5";
    return this.#walk("packets", sql, ([, blob, length, time, type], lastId, counted) => {
      const ends = endsOf(blob ?? null, type === "blob" ? Number(length) : 0);
      if (typeof ends === "string") {
        this.#say("packets", `the packets that end with id ${lastId} are damaged: ${ends}`);
        return;
      }
      const before = counted.lastId;
      const firstId = lastId + 1 - ends.length;
      if (firstId <= before) {
        this.#say("packets", `ids ${firstId} to ${before} are there twice`);
      }
      this.#checkChecksum("packets", lastId);
      if (lastId <= removedThrough) {
        this.#say("packets", `ids ${firstId} to ${lastId} were removed and are still there`);
      }
      if (!((numberOf(time) ?? -1) >= 0)) {
        this.#say("packets", `ids ${firstId} to ${lastId} have no time`);
      }
      const gone = Math.min(ends.length, Math.max(0, removedThrough + 1 - firstId));
      counted.packets += ends.length - gone;
      counted.bytes += Number(length) - (gone === 0 ? 0 : ends[gone - 1] ?? 0);
    });
  }

  /** One row at a time: each may be large. */
  #checkChecksum(kind: "packets" | "dead-letters", id: number): void {
    if (this.#version < 3) return;
    const [what, whose, table, key, ends] = kind === "packets"
      ? [`the packets that end with id ${id}`, "are damaged: their", "packets", "last_id", "ends"]
      : [`dead letter ${id}`, "is damaged: its", "dead_letters", "id", "NULL"];
    this.#try(kind, `${what} cannot be read`, () => {
      const sql = `SELECT ${ends}, payload, crc FROM ${table} WHERE ${key} = ?1 + ?4 ` +
        "AND crc IS NOT NULL";
      const [found, payload, crc] = this.#select(sql, [id])[0] ?? [];
      if (!(payload instanceof Uint8Array)) return;
      if (Number(crc) === crcOf(id, found instanceof Uint8Array ? found : null, payload)) return;
      this.#say(kind, `${what} ${whose} bytes do not match their checksum`);
    });
  }

  /** @param value What the file counts. */
  #checkCounts(value: (name: string) => number, counted: Counted): void {
    const lastId = value("last_id");
    for (const name of ["removed_through", "sent_through"]) {
      if (value(name) > lastId) {
        this.#say("counts", `${name} is ${value(name)}, and the highest id is ${lastId}`);
      }
    }
    if (counted.lastId > lastId) {
      this.#say("counts", `there is id ${counted.lastId}, and the highest id is ${lastId}`);
    }
    if (!counted.complete) return;
    this.#compare("packets", value("queued_packets"), counted.packets);
    this.#compare("bytes of packets", value("queued_bytes"), counted.bytes);
  }

  #compare(what: string, said: number, found: number): void {
    if (said !== found) this.#say("counts", `the file counts ${said} ${what}, there are ${found}`);
  }

  /** A row whose batch is gone means nothing; an older sendq leaves such rows behind. */
  #checkExpiry(): void {
    const rows = this.#select(
      "SELECT last_id - ?1, CAST(expires_at_ms AS TEXT) FROM expiry WHERE " +
        "last_id > ?2 AND last_id <= ?3 AND (typeof(expires_at_ms) <> 'integer' OR " +
        "expires_at_ms NOT BETWEEN 0 AND ?4) LIMIT ?5",
      [Number.MAX_SAFE_INTEGER, ROWS],
    );
    for (const [id, value] of rows) {
      this.#say("packets", `the packets that end with id ${id} expire at ${String(value)}`);
    }
  }

  #checkDeadLetters(removedThrough: number): Counted {
    const sql = "SELECT id - ?1, length(payload), typeof(payload), reason, sent, attempts, " +
      "enqueued_at_ms, died_at_ms FROM dead_letters WHERE id > ?1 + ?4 AND id <= ?3 " +
      "ORDER BY id LIMIT ?5";
    return this.#walk("dead-letters", sql, (row, id, counted) => {
      const [, length, type, reason, sent, ...numbers] = row;
      counted.packets++;
      counted.bytes += Number(length);
      const sound = type === "blob" && (Number(length) > 0 || reason === "damaged") &&
        isDeathReason(reason) &&
        (Number(sent) === 0 || Number(sent) === 1) &&
        numbers.every((value) => (numberOf(value) ?? -1) >= 0);
      if (!sound) this.#say("dead-letters", `dead letter ${id} is damaged`);
      else if (reason !== "damaged") this.#checkChecksum("dead-letters", id);
      this.#try("dead-letters", `dead letter ${id} cannot be compared with the queue`, () => {
        if (this.#isInQueue(id, removedThrough)) {
          this.#say("dead-letters", `id ${id} is in the queue and a dead letter`);
        }
      });
    });
  }

  #isInQueue(id: number, removedThrough: number): boolean {
    if (id <= removedThrough) return false;
    const [row] = this.#select(
      "SELECT last_id - ?1 + 1 - coalesce(length(ends) / 4, 1) FROM packets " +
        "WHERE last_id >= ?1 + ?4 AND last_id <= ?3 ORDER BY last_id LIMIT 1",
      [id],
    );
    return row !== undefined && Number(row[0]) <= id;
  }

  #checkDeadCounts(value: (name: string) => number, counted: Counted): void {
    const lastId = value("last_id");
    if (counted.lastId > lastId) {
      this.#say(
        "counts",
        `there is dead letter ${counted.lastId}, and the highest id is ${lastId}`,
      );
    }
    if (!counted.complete) return;
    this.#compare("dead letters", value("dead_packets"), counted.packets);
    this.#compare("bytes of dead letters", value("dead_bytes"), counted.bytes);
    const ever = value("expired_packets") + value("gave_up_packets") + value("damaged_packets") +
      value("refused_packets");
    if (counted.packets > ever) {
      this.#say("counts", `there are ${counted.packets} dead letters, and ever were ${ever}`);
    }
  }
}

function numberOf(value: SqliteValue | undefined): number | undefined {
  if (typeof value === "bigint") return Number(value);
  return typeof value === "number" && Number.isSafeInteger(value) ? value : undefined;
}
