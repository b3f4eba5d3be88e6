/**
 * Whether a queue's file is sound: SQLite's own check of its pages, then the
 * rules that the rows keep among each other. Each check goes on where another
 * one had to give up.
 *
 * @module
 */

import { messageOf } from "../../base/errors.ts";
import { SqliteCode, SqliteError, type SqliteValue } from "../sqlite/driver.ts";
import { crcOf, endsOf, letterCrcOf } from "../store/row.ts";
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

/** What was counted by looking. */
interface Counted {
  readonly packets: number;
  readonly bytes: number;
  /** The highest id. */
  readonly lastId: number;
  /** Whether all of it could be read. */
  readonly complete: boolean;
}

const ROWS = 256;

/** What to check. */
export interface CheckOptions {
  /** The version of the file's layout. */
  readonly version: number;
  /** The queue's number in the file. */
  readonly queue: number;
  /** After how many problems to stop. */
  readonly maxProblems: number;
  /** Whether the pages are sound is known already. */
  readonly knowsPages?: boolean;
}

/**
 * Checks a queue's file.
 *
 * @param select Reads from it; all in one transaction.
 * @param options Its version, and after how many problems to stop.
 */
export function checkFile(
  select: Select,
  options: CheckOptions,
): QueueProblem[] {
  const check = new Check(select, options);
  check.run();
  return check.problems;
}

/** Checks the pages of a file alone. */
export function checkPages(select: Select, maxProblems: number): QueueProblem[] {
  const check = new Check(select, { version: 0, queue: 0, maxProblems });
  check.runPages();
  return check.problems;
}

class Check {
  readonly problems: QueueProblem[] = [];
  readonly #select: Select;
  readonly #version: number;
  readonly #queue: number;
  readonly #maxProblems: number;
  readonly #knowsPages: boolean;

  constructor(select: Select, { version, queue, maxProblems, knowsPages = false }: CheckOptions) {
    this.#select = select;
    this.#version = version;
    this.#queue = queue;
    this.#maxProblems = maxProblems;
    this.#knowsPages = knowsPages;
  }

  run(): void {
    if (!this.#knowsPages) this.runPages();
    const state = this.#try("counts", "the counts cannot be read", () => this.#readState());
    const removedThrough = numberOf(state?.get("removed_through")) ?? 0;
    const packets = this.#checkPackets(removedThrough);
    if (state !== undefined) this.#checkCounts(state, packets);
    if (this.#version < 2) return;
    this.#try("packets", "times of expiry cannot be read", () => this.#checkExpiry());
    const letters = this.#checkDeadLetters(removedThrough);
    if (state !== undefined) this.#checkDeadCounts(state, letters);
  }

  runPages(): void {
    this.#try("pages", "the pages cannot be checked", () => this.#checkPages());
  }

  #say(kind: QueueProblem["kind"], words: string): void {
    if (this.problems.length < this.#maxProblems) this.problems.push({ kind, words });
  }

  #try<T>(kind: QueueProblem["kind"], words: string, work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      // A locked file is not a damaged one.
      if (isBusy(error)) throw error;
      this.#say(kind, `${words}: ${messageOf(error)}`);
      return undefined;
    }
  }

  /** All that `quick_check` looks at, and the one index besides. */
  #checkPages(): void {
    for (const [words] of this.#select(`PRAGMA integrity_check(${this.#maxProblems})`, [])) {
      const text = String(words).replaceAll(/\s+/g, " ");
      if (text !== "ok") this.#say("pages", text);
    }
  }

  #readState(): Map<string, SqliteValue> | undefined {
    const isOne = this.#version < SPOOL_VERSION;
    const rows = numberOf(
      (isOne
        ? this.#select("SELECT count(*) FROM state", [])
        : this.#select("SELECT count(*) FROM state WHERE queue = ?", [this.#queue]))[0]?.[0],
    );
    if (rows !== 1) {
      this.#say("counts", `there are ${rows} rows of counts, and not 1`);
      return undefined;
    }
    const [names, row] = this.#version < 3
      ? [this.#columnsOf("state"), this.#select("SELECT * FROM state", [])[0]]
      : [COUNT_COLUMNS, this.#select(COUNTS_SQL, [this.#queue])[0]];
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

  #checkPackets(removedThrough: number): Counted {
    let packets = 0, bytes = 0, before = 0;
    for (let after = 0;;) {
      const rows = this.#try(
        "packets",
        `packets behind id ${before} cannot be read`,
        () =>
          this.#select(
            "SELECT last_id - ?1, ends, length(payload), enqueued_at_ms, typeof(payload) " +
              "FROM packets WHERE last_id > ?1 + ?4 AND last_id <= ?3 ORDER BY last_id LIMIT ?5",
            [after, ROWS],
          ),
      );
      if (rows === undefined) return { packets, bytes, lastId: before, complete: false };
      if (rows.length === 0) return { packets, bytes, lastId: before, complete: true };
      for (const row of rows) {
        const [last, blob, length, , type] = row;
        const lastId = Number(last);
        if (lastId <= after) return { packets, bytes, lastId: before, complete: false };
        after = lastId;
        const ends = endsOf(blob ?? null, type === "blob" ? Number(length) : 0);
        if (typeof ends === "string") {
          this.#say("packets", `the packets that end with id ${lastId} are damaged: ${ends}`);
          before = lastId;
          continue;
        }
        const firstId = lastId + 1 - ends.length;
        if (firstId <= before) {
          this.#say("packets", `ids ${firstId} to ${Math.min(before, lastId)} are there twice`);
        }
        this.#checkChecksum(lastId);
        if (lastId <= removedThrough) {
          this.#say("packets", `ids ${firstId} to ${lastId} were removed and are still there`);
        }
        const enqueuedAtMs = numberOf(row[3]);
        if (enqueuedAtMs === undefined || enqueuedAtMs < 0) {
          this.#say("packets", `ids ${firstId} to ${lastId} have no time`);
        }
        const gone = Math.min(ends.length, Math.max(0, removedThrough + 1 - firstId));
        packets += ends.length - gone;
        bytes += Number(length) - (gone === 0 ? 0 : ends[gone - 1] ?? 0);
        before = lastId;
      }
    }
  }

  /** One row at a time: each may be large. */
  #checkChecksum(lastId: number): void {
    if (this.#version < 3) return;
    this.#try("packets", `the packets that end with id ${lastId} cannot be read`, () => {
      const [row] = this.#select(
        "SELECT ends, payload, crc FROM packets WHERE last_id = ?1 + ?4 AND crc IS NOT NULL",
        [lastId],
      );
      const [ends, payload, crc] = row ?? [];
      if (!(payload instanceof Uint8Array)) return;
      if (Number(crc) === crcOf(lastId, ends instanceof Uint8Array ? ends : null, payload)) return;
      const words = "their bytes do not match their checksum";
      this.#say("packets", `the packets that end with id ${lastId} are damaged: ${words}`);
    });
  }

  #checkCounts(state: ReadonlyMap<string, SqliteValue>, counted: Counted): void {
    const value = (name: string) => numberOf(state.get(name)) ?? 0;
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
    let packets = 0, bytes = 0, after = 0;
    for (;;) {
      const rows = this.#try(
        "dead-letters",
        `dead letters behind id ${after} cannot be read`,
        () =>
          this.#select(
            "SELECT id - ?1, length(payload), typeof(payload), reason, sent, attempts, " +
              "enqueued_at_ms, died_at_ms FROM dead_letters WHERE id > ?1 + ?4 AND id <= ?3 " +
              "ORDER BY id LIMIT ?5",
            [after, ROWS],
          ),
      );
      if (rows === undefined) return { packets, bytes, lastId: after, complete: false };
      if (rows.length === 0) return { packets, bytes, lastId: after, complete: true };
      for (const [id, length, type, reason, sent, ...numbers] of rows) {
        if (Number(id) <= after) return { packets, bytes, lastId: after, complete: false };
        after = Number(id);
        packets++;
        bytes += Number(length);
        const sound = type === "blob" && (Number(length) > 0 || reason === "damaged") &&
          isDeathReason(reason) &&
          (Number(sent) === 0 || Number(sent) === 1) &&
          numbers.every((value) => (numberOf(value) ?? -1) >= 0);
        if (!sound) this.#say("dead-letters", `dead letter ${after} is damaged`);
        else if (reason !== "damaged") this.#checkLetterChecksum(after);
        this.#try("dead-letters", `dead letter ${after} cannot be compared with the queue`, () => {
          if (this.#isInQueue(after, removedThrough)) {
            this.#say("dead-letters", `id ${after} is in the queue and a dead letter`);
          }
        });
      }
    }
  }

  /** One letter at a time: each may be large. */
  #checkLetterChecksum(id: number): void {
    if (this.#version < 3) return;
    this.#try("dead-letters", `dead letter ${id} cannot be read`, () => {
      const [row] = this.#select(
        "SELECT payload, crc FROM dead_letters WHERE id = ?1 + ?4 AND crc IS NOT NULL",
        [id],
      );
      const [payload, crc] = row ?? [];
      if (!(payload instanceof Uint8Array) || Number(crc) === letterCrcOf(id, payload)) return;
      const words = "its bytes do not match their checksum";
      this.#say("dead-letters", `dead letter ${id} is damaged: ${words}`);
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

  #checkDeadCounts(state: ReadonlyMap<string, SqliteValue>, counted: Counted): void {
    const value = (name: string) => numberOf(state.get(name)) ?? 0;
    if (counted.lastId > value("last_id")) {
      this.#say(
        "counts",
        `there is dead letter ${counted.lastId}, and the highest id is ${value("last_id")}`,
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

function isBusy(error: unknown): boolean {
  return error instanceof SqliteError &&
    (error.primaryCode === SqliteCode.BUSY || error.primaryCode === SqliteCode.LOCKED);
}
