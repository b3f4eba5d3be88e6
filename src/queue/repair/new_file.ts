import { createCopy } from "../sqlite/copy.ts";
import type {
  SqliteDatabase,
  SqliteDriver,
  SqliteStatement,
  SqliteValue,
} from "../sqlite/driver.ts";
import { toFileError } from "../sqlite/file_error.ts";
import { LETTER_COLUMNS, letterCrcOf } from "../store/row.ts";
import { openQueueFile } from "../store/schema.ts";
import { type Counts, STATE_COLUMNS } from "../store/state_table.ts";
import type { DeathReason, IdRange } from "../store/types.ts";
import { endsBlobOf, type SavedBatch, type SavedLetter } from "./salvage.ts";

/** One transaction. */
const COMMIT_ROWS = 4096;
const COMMIT_BYTES = 16 * 1024 * 1024;

/**
 * The file into which a repair saves: filled row by row, in transactions of a bounded
 * size, and taken away again when the repair fails. Until it is whole there is nothing
 * beside it: on a full disk SQLite cannot empty a log, and leaves it.
 */
export class NewFile {
  runPackets = 0;
  runBytes = 0;
  deadPackets = 0;
  deadBytes = 0;
  /** How many of the dead letters died of what. */
  readonly deadOf: Record<DeathReason, number> = {
    "expired": 0,
    "gave-up": 0,
    "damaged": 0,
    "refused": 0,
  };
  readonly #takeAway: () => void;
  readonly #database: SqliteDatabase;
  readonly #statements = new Map<string, SqliteStatement>();
  #rows = 0;
  #bytes = 0;

  private constructor(database: SqliteDatabase, takeAway: () => void) {
    this.#takeAway = takeAway;
    this.#database = database;
    this.#run("BEGIN IMMEDIATE", []);
  }

  /** @throws {QueueFileError} There is such a file, or it cannot be made. */
  static create(path: string, driver: SqliteDriver): NewFile {
    const takeAway = createCopy(path);
    let database: SqliteDatabase | undefined;
    try {
      const options = { driver, durability: "power-loss", journal: "memory" } as const;
      ({ database } = openQueueFile(path, options));
      return new NewFile(database, takeAway);
    } catch (error) {
      discard(database, takeAway);
      throw toFileError(error, path);
    }
  }

  /** Whether a packet expires; to be asked once the counts are written. */
  get hasExpiry(): boolean {
    return this.#all("SELECT 1 FROM expiry LIMIT 1", []).length > 0;
  }

  /** @param rowId The id under which the old file has their time of expiry. */
  addBatch({ firstId, ends, bytes, enqueuedAtMs, crc }: SavedBatch, rowId: number): void {
    const lastId = firstId + ends.length - 1;
    this.#run(
      "INSERT INTO packets (last_id, enqueued_at_ms, crc, ends, payload) VALUES (?, ?, ?, ?, ?)",
      [lastId, enqueuedAtMs, crc, endsBlobOf(ends), bytes],
    );
    if (lastId !== rowId) {
      this.#run(
        "INSERT OR REPLACE INTO expiry SELECT ?, expires_at_ms FROM expiry WHERE last_id = ?",
        [lastId, rowId],
      );
    }
    this.runPackets += ends.length;
    this.runBytes += bytes.length;
    this.#added(bytes.length);
  }

  addExpiry(lastId: number, expiresAtMs: number): void {
    this.#run("INSERT OR REPLACE INTO expiry VALUES (?, ?)", [lastId, expiresAtMs]);
    this.#added(0);
  }

  addLetter(letter: SavedLetter): void {
    const [id, , , reason, , , , payload] = letter;
    const about = letter.slice(0, -1);
    this.#run(
      `INSERT INTO dead_letters (${LETTER_COLUMNS}, words, crc, payload) ` +
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      [...about, letterCrcOf(id, payload), payload],
    );
    this.deadPackets++;
    this.deadBytes += payload.length;
    this.deadOf[reason]++;
    this.#added(payload.length);
  }

  writeCounts(counts: Counts): void {
    // Those whose batch is gone; ids may be given again where the counts are lost.
    this.#run("DELETE FROM expiry WHERE last_id NOT IN (SELECT last_id FROM packets)", []);
    this.#run(
      `UPDATE state SET ${STATE_COLUMNS.map(([column]) => `${column} = ?`).join(", ")}`,
      STATE_COLUMNS.map(([, name]) => counts[name]),
    );
    this.#run("COMMIT", []);
  }

  hasLetter(id: number): boolean {
    return this.#all("SELECT 1 FROM dead_letters WHERE id = ?", [id]).length > 0;
  }

  /** Whether there are packets with such ids. */
  overlaps(firstId: number, lastId: number): boolean {
    const [batch] = this.#batchesFrom(firstId, 1);
    return batch !== undefined && batch.firstId <= lastId;
  }

  /** What is left of ranges without the ids that packets and dead letters have. */
  without(ranges: readonly IdRange[]): IdRange[] {
    return this.withoutLetters(leftOf(ranges, (id) => this.#batchesFrom(id, 256)));
  }

  /** The same without the ids of dead letters alone. */
  withoutLetters(ranges: readonly IdRange[]): IdRange[] {
    const sql = "SELECT id, id FROM dead_letters WHERE id >= ? ORDER BY id LIMIT 256";
    return leftOf(ranges, (id) => this.#ranges(sql, [id]));
  }

  #batchesFrom(id: number, limit: number): IdRange[] {
    return this.#ranges(
      "SELECT last_id + 1 - coalesce(length(ends) / 4, 1), last_id FROM packets " +
        "WHERE last_id >= ? ORDER BY last_id LIMIT ?",
      [id, limit],
    );
  }

  #ranges(sql: string, params: readonly SqliteValue[]): IdRange[] {
    return this.#all(sql, params)
      .map(([firstId, lastId]) => ({ firstId: Number(firstId), lastId: Number(lastId) }));
  }

  #added(bytes: number): void {
    this.#rows++;
    this.#bytes += bytes;
    if (this.#rows < COMMIT_ROWS && this.#bytes < COMMIT_BYTES) return;
    this.#rows = this.#bytes = 0;
    this.#run("COMMIT", []);
    this.#run("BEGIN IMMEDIATE", []);
  }

  close(): void {
    this.#database.close();
  }

  /** Takes the file away again. */
  discard(): void {
    discard(this.#database, this.#takeAway);
  }

  #run(sql: string, params: readonly SqliteValue[]): void {
    this.#statement(sql).run(params);
  }

  #all(sql: string, params: readonly SqliteValue[]): SqliteValue[][] {
    return this.#statement(sql).all(params);
  }

  #statement(sql: string): SqliteStatement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** @param takenFrom The next ranges that are taken, from an id on; none: there are no more. */
function leftOf(ranges: readonly IdRange[], takenFrom: (id: number) => IdRange[]): IdRange[] {
  const left: IdRange[] = [];
  for (const { firstId, lastId } of ranges) {
    let next = firstId;
    while (next <= lastId) {
      const taken = takenFrom(next).filter((range) => range.firstId <= lastId);
      for (const range of taken) {
        if (range.firstId > next) left.push({ firstId: next, lastId: range.firstId - 1 });
        next = range.lastId + 1;
      }
      if (taken.length > 0) continue;
      left.push({ firstId: next, lastId });
      break;
    }
  }
  return left;
}

function discard(database: SqliteDatabase | undefined, takeAway: () => void): void {
  try {
    database?.close();
  } catch {
    // Whatever it fails of, nobody needs the file any more.
  }
  takeAway();
}
