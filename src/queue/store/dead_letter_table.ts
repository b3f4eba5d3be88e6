/** The table `dead_letters`. The caller has begun a transaction and ends it. */

import type { StoredPacket } from "../../base/ports.ts";
import {
  SqliteCode,
  type SqliteDatabase,
  SqliteError,
  type SqliteValue,
} from "../sqlite/driver.ts";
import { type IdWindow, lastIdIn, WindowStatement } from "./id_window.ts";
import { countOf, MOVE_BYTES, MOVE_PACKETS } from "./packet_table.ts";
import { LETTER_COLUMNS, letterCrcOf, letterOf } from "./row.ts";
import type { DeadLetter, DeathReason, IdRange, PacketCount, PacketSpan } from "./types.ts";

export interface Death {
  readonly diedAtMs: number;
  readonly reason: DeathReason;
  readonly attempts: number;
  readonly words?: string | undefined;
  /** Ids up to this one were on a wire. */
  readonly sentThrough: number;
}

const ROWS = 64;

/** The dead letters on disk. */
export class DeadLetterTable {
  readonly #window: IdWindow;

  readonly #sql: ReturnType<typeof statementsOf>;

  constructor(database: SqliteDatabase, window: IdWindow) {
    this.#window = window;
    this.#sql = statementsOf(database, window);
  }

  add(packets: readonly StoredPacket[], enqueuedAtMs: number, death: Death): void {
    const { diedAtMs, reason, attempts, words = null, sentThrough } = death;
    for (const { id, payload } of packets) {
      const sent = id <= sentThrough ? 1 : 0;
      const crc = letterCrcOf(id, payload);
      this.#sql.insert.run([
        ...[id, enqueuedAtMs, diedAtMs, reason, sent, attempts],
        ...[this.#window.queue, crc, words, payload],
      ]);
    }
  }

  /** Counts what is there, letter by letter. */
  measure(): PacketCount {
    return countOf(this.#sql.measureAll.all([])[0]);
  }

  /** See `QueueStore.deadLetters`. */
  read(afterId: number, maxBytes: number): DeadLetter[] {
    const above = { firstId: afterId + 1, lastId: lastIdIn(this.#window) };
    const ids = this.#fitting(above, { packets: Infinity, bytes: maxBytes });
    if (ids === undefined) return [];
    return this.#lettersIn(ids);
  }

  /**
   * Takes letters out, as many as one transaction should move. Damaged ones stay: what
   * they hold is not what anybody has stored.
   *
   * @returns Their bytes, to be stored anew; and how many damaged ones were passed over.
   */
  take(
    { firstId, lastId }: IdRange,
    expiresAtMs: number,
  ): { readonly span: PacketSpan | undefined; readonly damagedPackets: number } {
    let damagedPackets = 0;
    for (let from = firstId;;) {
      const limit = { packets: MOVE_PACKETS, bytes: MOVE_BYTES };
      const ids = this.#fitting({ firstId: from, lastId }, limit);
      if (ids === undefined) return { span: undefined, damagedPackets };
      const letters = this.#lettersIn(ids);
      const sound = letters.filter(({ reason }) => reason !== "damaged");
      damagedPackets += letters.length - sound.length;
      from = ids.lastId + 1;
      if (sound.length === 0) continue;
      if (sound.length === letters.length) this.#sql.delete.run([ids.firstId, ids.lastId]);
      else for (const { id } of sound) this.#sql.delete.run([id, id]);
      return { span: spanOf(sound, expiresAtMs), damagedPackets };
    }
  }

  remove({ firstId, lastId }: IdRange): PacketCount {
    const count = countOf(this.#sql.measure.all([firstId, lastId])[0]);
    if (count.packets > 0) this.#sql.delete.run([firstId, lastId]);
    return count;
  }

  /** Removes the oldest, until both excesses are gone or no letter is left. */
  dropOldest(over: PacketCount, bytesBeside = 0): PacketCount {
    let packets = 0, bytes = 0, through = 0;
    for (const [id, size] of this.#sizesIn({ firstId: 1, lastId: lastIdIn(this.#window) })) {
      if (packets >= over.packets && bytes + packets * bytesBeside >= over.bytes) break;
      through = id;
      packets++;
      bytes += size;
    }
    if (packets > 0) this.#sql.delete.run([0, through]);
    return { packets, bytes };
  }

  #lettersIn({ firstId, lastId }: IdRange): DeadLetter[] {
    return this.#sql.select.all([firstId, lastId]).map(wholeLetterOf);
  }

  /** Which of the first letters in a range fit: at least one when there is one. */
  #fitting(range: IdRange, limit: PacketCount): IdRange | undefined {
    let ids: IdRange | undefined;
    let packets = 0, bytes = 0;
    for (const [id, size] of this.#sizesIn(range)) {
      const fits = packets < limit.packets && bytes + size <= limit.bytes;
      if (ids !== undefined && !fits) break;
      ids = { firstId: ids?.firstId ?? id, lastId: id };
      packets++;
      bytes += size;
    }
    return ids;
  }

  /** The ids of letters, and how large each is; no statement is open between two of them. */
  *#sizesIn({ firstId, lastId }: IdRange): Generator<readonly [id: number, bytes: number]> {
    for (let from = firstId;;) {
      const rows = this.#sql.selectSizes.all([from, lastId, ROWS]);
      for (const [id, bytes] of rows) {
        yield [Number(id), Number(bytes)];
        from = Number(id) + 1;
      }
      if (rows.length < ROWS) return;
    }
  }
}

function statementsOf(database: SqliteDatabase, window: IdWindow) {
  const prepare = (sql: string) => new WindowStatement(database, sql, window);
  const columns = LETTER_COLUMNS.replace("id", "id - ?1");
  const between = "WHERE id BETWEEN ?1 + ?4 AND min(?1 + ?5, ?3)";
  const measure = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM dead_letters";
  return {
    // An id that is there already can only come from damage: the older letter stays.
    insert: prepare(
      `INSERT OR IGNORE INTO dead_letters (${LETTER_COLUMNS}, queue, crc, words, payload) ` +
        "VALUES (?1 + ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    ),
    select: prepare(
      `SELECT ${columns}, crc, words, payload FROM dead_letters ${between} ORDER BY id`,
    ),
    selectSizes: prepare(
      `SELECT id - ?1, length(payload) FROM dead_letters ${between} ORDER BY id LIMIT ?6`,
    ),
    measure: prepare(`${measure} ${between}`),
    measureAll: prepare(`${measure} WHERE id > ?2 AND id <= ?3`),
    delete: prepare(`DELETE FROM dead_letters ${between}`),
  };
}

function spanOf(letters: readonly DeadLetter[], expiresAtMs: number): PacketSpan {
  const sizes = Uint32Array.from(letters, ({ payload }) => payload.length);
  const block = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  let end = 0;
  for (const { payload } of letters) {
    block.set(payload, end);
    end += payload.length;
  }
  return { block, start: 0, bytes: end, packets: letters.length, sizes, expiresAtMs };
}

function wholeLetterOf(row: readonly SqliteValue[]): DeadLetter {
  const letter = letterOf(row);
  const payload = row[8];
  if (!(payload instanceof Uint8Array)) {
    throw new SqliteError(SqliteCode.CORRUPT, `dead letter ${letter.id} holds no bytes`);
  }
  return { ...letter, payload };
}
