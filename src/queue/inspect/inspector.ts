/**
 * Looking into a queue's file without touching it, also while a sender works on it.
 *
 * Invariants:
 *
 * 1. The connection cannot write: no lock but a reader's is ever taken, and a
 *    file of an older version stays one.
 * 2. A page of packets is one transaction, so that packets and counts in it are of one
 *    moment. Between two pages nothing is held: writers can give the log's space back.
 *    Only {@linkcode QueueInspector.check} is one transaction as a whole.
 * 3. Memory is bounded by a page.
 * 4. Nothing but SQLite opens the file.
 */

import { ClosedError, OptionError } from "../../base/errors.ts";
import type { Clock } from "../../base/ports.ts";
import { offsetAt } from "../read/queue_time.ts";
import { onceNotBusy } from "../sqlite/busy.ts";
import {
  isSqliteError,
  SqliteCode,
  type SqliteDatabase,
  type SqliteDriver,
  SqliteError,
  type SqliteStatement,
  type SqliteValue,
} from "../sqlite/driver.ts";
import { queueFileError, toFileError } from "../sqlite/file_error.ts";
import { type FileIdentity, identityAt, isSameFile } from "../sqlite/file_identity.ts";
import { type IdWindow, statementFor, WHOLE_FILE } from "../store/id_window.ts";
import { countOf } from "../store/packet_table.ts";
import { checkCrc, LETTER_COLUMNS, letterOf, shapeOf } from "../store/row.ts";
import { recognise, rollBack } from "../store/schema.ts";
import { COUNTS_SQL, NO_COUNTS, STATE_COLUMNS } from "../store/state_table.ts";
import type { PacketCount } from "../store/types.ts";
import {
  type InspectedDeadLetter,
  type InspectedPacket,
  type InspectOptions,
  type Inspector,
  type InspectQuery,
  type InspectRange,
  problemsOf,
  type QueueCounts,
  queueCountsOf,
  resolveInspectOptions,
} from "./inspection.ts";
import { checkFile, type QueueProblem } from "./integrity.ts";
import { GIVE_A_QUEUE, openError, openForLooking } from "./open_for_looking.ts";
import {
  boundsOf,
  countPacketsOnPages,
  firstOf,
  type InspectedBatch,
  type LetterPage,
  lettersOnPages,
  NO_BYTES,
  NO_LETTERS,
  NO_PACKETS,
  type PacketPage,
  packetsOnPages,
  PAGE_BYTES,
  PAGE_ROWS,
} from "./pages.ts";

/** How many of {@linkcode STATE_COLUMNS} the first versions have, and how many are shown. */
const COUNTS_OF_VERSION: readonly number[] = [0, 7, 11];
const SHOWN_COUNTS = 13;

const DEAD_LETTERS_VERSION = 2;
/** From this one on rows of packets have counts and a checksum. */
const ROW_COUNTS_VERSION = 3;

/** Which of a file's queues is looked into. */
export interface InspectedPlace {
  /** For people. */
  readonly path: string;
  readonly window: IdWindow;
}

/** Finds a queue in a spool, which is open. */
type FindPlace = (database: SqliteDatabase, path: string, version: number) => InspectedPlace;

/**
 * Opens a spool for looking into one of its queues.
 *
 * @throws As `QueueInspector.open`; and what `find` throws.
 */
export let inspectIn: (
  path: string,
  options: InspectOptions,
  find: FindPlace,
) => Promise<QueueInspector>;

/**
 * Looks into a queue's file without the right to change it. A sender and
 * programs that enqueue may go on working beside it, in this process or others.
 *
 * Needs `--allow-read` for the file. SQLite puts two files beside it, `-wal`
 * and `-shm`, where they are not there already: its directory must be writable.
 *
 * @category Queue
 */
export class QueueInspector implements Inspector {
  static {
    inspectIn = (path, options, find) => QueueInspector.#openPatiently(path, options, find);
  }

  /** The file's path without symbolic links. */
  readonly path: string;
  readonly #filePath: string;
  readonly #driver: SqliteDriver;
  readonly #find: FindPlace | undefined;
  #opened: OpenedPlace;
  readonly #identity: FileIdentity | undefined;
  readonly #clock: Clock;
  readonly #busyTimeoutMs: number;
  #isClosed = false;
  readonly #statements = new Map<string, SqliteStatement>();

  private constructor(path: string, options: Required<InspectOptions>, find?: FindPlace) {
    this.#driver = options.driver;
    this.#find = find;
    this.#opened = openPlace(path, options.driver, find);
    this.path = this.#opened.place.path;
    this.#filePath = this.#opened.filePath;
    this.#identity = identityAt(this.#filePath);
    this.#clock = options.clock;
    this.#busyTimeoutMs = options.busyTimeoutMs;
  }

  /** The version of the file's layout; 0: there was nothing in it when it was last looked at. */
  get version(): number {
    return this.#opened.version;
  }

  get #window(): IdWindow {
    return this.#opened.place.window;
  }

  /**
   * Opens the queue at `path` for looking.
   *
   * @param path The file.
   * @param options See {@linkcode InspectOptions}.
   * @throws {QueueFileError} There is no file, it is not a queue, or a newer
   *   one, or so damaged that it is not known for one.
   * @throws {Deno.errors.NotCapable} The permission to read it is missing.
   */
  static open(path: string, options: InspectOptions = {}): Promise<QueueInspector> {
    return QueueInspector.#openPatiently(path, options);
  }

  static async #openPatiently(
    path: string,
    given: InspectOptions,
    find?: FindPlace,
  ): Promise<QueueInspector> {
    const options = resolveInspectOptions(given);
    return await onceNotBusy(
      options.clock,
      options.busyTimeoutMs,
      () => new QueueInspector(path, options, find),
    );
  }

  /** See {@linkcode Inspector.counts}. */
  counts(): Promise<QueueCounts> {
    return this.#read(() => this.#counts());
  }

  /** See {@linkcode Inspector.packets}. */
  packets(query: InspectQuery = {}): AsyncGenerator<InspectedPacket> {
    return packetsOnPages((after) => this.#read(() => this.#packetPage(after, query)), query);
  }

  /** See {@linkcode Inspector.countPackets}. */
  countPackets(range: InspectRange = {}): Promise<PacketCount> {
    return countPacketsOnPages((after) => this.#read(() => this.#packetPage(after, range)), range);
  }

  /** See {@linkcode Inspector.packet}. */
  packet(id: number): Promise<InspectedPacket | undefined> {
    return firstOf(this.packets({ fromId: id, toId: id, payloadBytes: Infinity }));
  }

  /** See {@linkcode Inspector.deadLetters}. */
  deadLetters(query: InspectQuery = {}): AsyncGenerator<InspectedDeadLetter> {
    return lettersOnPages(
      (after) => this.#read(() => this.#deadPage(after, query.payloadBytes ?? 0)),
      query,
    );
  }

  /** See {@linkcode Inspector.countDeadLetters}. */
  async countDeadLetters(range: InspectRange = {}): Promise<PacketCount> {
    const { after, toId, beforeMs } = boundsOf(range);
    return await this.#read(() => {
      if (this.version < DEAD_LETTERS_VERSION) return { packets: 0, bytes: 0 };
      const [row] = this.#select(
        "SELECT count(*), coalesce(sum(length(payload)), 0) FROM dead_letters " +
          "WHERE id > ?1 + ?4 AND id <= min(?1 + ?5, ?3) AND died_at_ms < ?6",
        [after, toId, Math.min(beforeMs, Number.MAX_SAFE_INTEGER)],
      );
      return countOf(row);
    });
  }

  /** See {@linkcode Inspector.deadLetter}. */
  deadLetter(id: number): Promise<InspectedDeadLetter | undefined> {
    return firstOf(this.deadLetters({ fromId: id, toId: id, payloadBytes: Infinity }));
  }

  /**
   * See {@linkcode Inspector.check}. One transaction, and it blocks the event loop: about half a
   * second a GiB from a warm cache, longer from the disk. A writer's log cannot shrink meanwhile.
   */
  check(maxProblems = 1000): Promise<QueueProblem[]> {
    return this.#read(() =>
      this.version === 0 ? [] : checkFile((sql, params) => this.#select(sql, params), {
        version: this.version,
        queue: this.#window.queue,
        maxProblems: problemsOf(maxProblems),
      })
    );
  }

  /** Closes the file. Idempotent. */
  [Symbol.dispose](): void {
    if (!this.#isClosed) this.#opened.database.close();
    this.#isClosed = true;
  }

  /** Reads in one transaction; waits while the file is locked. */
  async #read<T>(work: () => T): Promise<T> {
    return await onceNotBusy(this.#clock, this.#busyTimeoutMs, () => {
      try {
        if (this.#isClosed) throw new ClosedError("The inspector is closed.");
        this.#checkInPlace();
        if (this.#isOutdated()) this.#openAnew();
        this.#select("BEGIN", []);
        try {
          return work();
        } finally {
          rollBack(this.#opened.database);
        }
      } catch (error) {
        throw toFileError(error, this.path);
      }
    });
  }

  /** What is in a file that its path no longer leads to says nothing about the queue. */
  #checkInPlace(): void {
    if (isSameFile(this.#identity, identityAt(this.#filePath))) return;
    throw queueFileError("misplaced", this.path, "its file was removed or replaced meanwhile", {
      advice: "Look again.",
    });
  }

  /** Whether a program has made something of the file since, or brought it to a newer version. */
  #isOutdated(): boolean {
    if (this.version === 0) return Deno.statSync(this.#filePath).size > 0;
    if (this.version >= ROW_COUNTS_VERSION) return false;
    return Number(this.#select("PRAGMA user_version", [])[0]?.[0]) !== this.version;
  }

  #openAnew(): void {
    let opened: OpenedPlace;
    try {
      opened = openPlace(this.#filePath, this.#driver, this.#find);
    } catch (error) {
      // A spool that has queues by now, and not yet this one.
      if (error instanceof OptionError) return;
      throw error;
    }
    this.#opened.database.close();
    this.#statements.clear();
    this.#opened = opened;
  }

  /** Prepared when first used: on a damaged file not every table can be. */
  #select(sql: string, params: readonly SqliteValue[]): SqliteValue[][] {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = statementFor(this.#opened.database, sql, this.#window);
      this.#statements.set(sql, statement);
    }
    return statement.all(params);
  }

  #counts(): QueueCounts {
    const counts = { ...NO_COUNTS };
    if (this.version === 0) return queueCountsOf(counts);
    const known = STATE_COLUMNS.slice(0, COUNTS_OF_VERSION[this.version] ?? SHOWN_COUNTS);
    const columns = known.map(([column]) => column);
    const [row] = this.version < ROW_COUNTS_VERSION
      ? this.#select(`SELECT ${columns.join(", ").replaceAll("queued_", "")} FROM state`, [])
      : this.#select(`SELECT ${columns.join(", ")} FROM (${COUNTS_SQL})`, [this.#window.queue]);
    if (row === undefined) throw new SqliteError(SqliteCode.CORRUPT, "the state row is missing");
    for (const [i, [column, name]] of known.entries()) {
      counts[name] = Number(row[i]);
      if (Number.isSafeInteger(counts[name])) continue;
      throw new SqliteError(SqliteCode.CORRUPT, `${column} is ${String(row[i])}`);
    }
    return queueCountsOf(counts);
  }

  /** What the queue's time is ahead of the wall clock; see `queue_time.ts`. */
  #clockOffsetMs(wallMs: number): number {
    if (this.version < ROW_COUNTS_VERSION) return 0;
    const sql = `SELECT written_at_ms, clock_offset_ms FROM (${COUNTS_SQL})`;
    const [row = []] = this.#select(sql, [this.#window.queue]);
    const [writtenAtMs = 0, clockOffsetMs = 0] = row.map(Number);
    return offsetAt(wallMs, { writtenAtMs, clockOffsetMs }) || 0;
  }

  /** The rows that follow `after`; `through` is the last one's id, where there may be more. */
  #packetPage(after: number, { payloadBytes = 0 }: InspectQuery): PacketPage {
    if (this.version === 0) return NO_PACKETS;
    const { removedThroughId, sentThroughId } = this.#counts();
    const from = Math.max(after, removedThroughId);
    const [expiry, join] = this.version < DEAD_LETTERS_VERSION
      ? ["NULL", ""]
      : ["expires_at_ms", "LEFT JOIN expiry ON expiry.last_id = packets.last_id "];
    // Of a part nobody can tell whether it is what was stored.
    const crc = this.version < ROW_COUNTS_VERSION || payloadBytes < Infinity ? "NULL" : "crc";
    const columns = `packets.last_id - ?1, ends, enqueued_at_ms, ${expiry}, ${crc}`;
    const table = { name: "packets", key: "packets.last_id", join };
    const rows = this.#rowsBehind(from, columns, table, payloadBytes > 0);
    const nowMs = this.#clock.wallMs();
    const offsetMs = this.#clockOffsetMs(nowMs);
    const { items, damage } = this.#beforeDamage(rows, from, (row, before) => {
      const lastId = Number(row[0]);
      if (lastId <= before) throw outOfOrder(`packet ${lastId} comes behind ${before}`);
      const batch = batchOf(row, offsetMs);
      // The first of a page may have begun on the page before.
      if (before !== from && batch.firstId <= before) {
        throw outOfOrder(`packets ${batch.firstId} to ${lastId} come behind ${before}`);
      }
      return { item: batch, lastId };
    });
    const last = items.at(-1);
    return {
      batches: items,
      ...{ removedThroughId, sentThroughId, nowMs, damage },
      through: last === undefined ? undefined : last.firstId + last.ends.length - 1,
    };
  }

  #deadPage(after: number, payloadBytes: number): LetterPage {
    if (this.version < DEAD_LETTERS_VERSION) return NO_LETTERS;
    const more = this.version < ROW_COUNTS_VERSION ? "NULL, NULL" : "crc, words";
    const columns = `${LETTER_COLUMNS.replace("id", "id - ?1")}, ${more}`;
    const table = { name: "dead_letters", key: "id" };
    const rows = this.#rowsBehind(after, columns, table, payloadBytes > 0);
    return this.#beforeDamage(rows, after, (row, before) => {
      const item = inspectedLetterOf(row, payloadBytes);
      if (item.id <= before) throw outOfOrder(`dead letter ${item.id} comes behind ${before}`);
      return { item, lastId: item.id };
    });
  }

  /**
   * What rows mean, up to the first one that is damaged or out of order: a damaged tree may
   * give the same rows again and again.
   */
  #beforeDamage<T>(
    rows: readonly SqliteValue[][],
    after: number,
    read: (row: SqliteValue[], before: number) => { readonly item: T; readonly lastId: number },
  ): { readonly items: readonly T[]; readonly damage: unknown } {
    const items: T[] = [];
    let before = after;
    for (const row of rows) {
      try {
        const { item, lastId } = read(row, before);
        items.push(item);
        before = lastId;
      } catch (error) {
        return { items, damage: toFileError(error, this.path) };
      }
    }
    return { items, damage: undefined };
  }

  /** The rows that make a page, and behind the columns the payload of each, or its length. */
  #rowsBehind(
    after: number,
    columns: string,
    { name, key, join = "" }: {
      readonly name: string;
      readonly key: string;
      readonly join?: string;
    },
    hasPayload: boolean,
  ): SqliteValue[][] {
    const behind = `WHERE ${key} > ?1 + ?4 AND ${key} <= ?3 ORDER BY ${key} LIMIT ?5`;
    let limit = PAGE_ROWS;
    if (hasPayload) {
      const sizes = `SELECT length(payload) FROM ${name} ${behind}`;
      let rows = 0, bytes = 0;
      for (const [size] of this.#selectBeforeDamage(sizes, after, PAGE_ROWS)) {
        bytes += Number(size);
        if (rows > 0 && bytes > PAGE_BYTES) break;
        rows++;
      }
      limit = Math.max(1, rows);
    }
    const payload = hasPayload ? "payload" : "length(payload)";
    const sql = `SELECT ${columns}, ${payload} FROM ${name} ${join}${behind}`;
    return this.#selectBeforeDamage(sql, after, limit);
  }

  /** Where a page cannot be read, the first row alone: so the rows before it still come. */
  #selectBeforeDamage(sql: string, after: number, limit: number): SqliteValue[][] {
    try {
      return this.#select(sql, [after, limit]);
    } catch (error) {
      if (!isSqliteError(error, SqliteCode.CORRUPT)) throw error;
      return this.#select(sql, [after, 1]);
    }
  }
}

interface OpenedPlace {
  readonly database: SqliteDatabase;
  readonly filePath: string;
  readonly version: number;
  readonly place: InspectedPlace;
}

/** @throws {QueueFileError} It is none, or so damaged that it is not known for one. */
function openPlace(path: string, driver: SqliteDriver, find: FindPlace | undefined): OpenedPlace {
  let database: SqliteDatabase | undefined;
  try {
    const file = openForLooking(path, driver);
    database = file.database;
    const version = recognise(database, path, {
      mayLack: true,
      advice: GIVE_A_QUEUE,
      kind: find === undefined ? "queue" : "spool",
    });
    const place = find?.(database, file.path, version) ?? { path: file.path, window: WHOLE_FILE };
    return { database, filePath: file.path, version, place };
  } catch (error) {
    database?.close();
    throw openError(error, path);
  }
}

/** A row of `last_id, ends, enqueued_at_ms, expires_at_ms, crc or NULL, payload or its length`. */
function batchOf(
  [last = null, blob = null, enqueuedAt, expiresAt, crc, payload = null]: readonly SqliteValue[],
  offsetMs: number,
): InspectedBatch {
  const shape = shapeOf([last, blob, payload]);
  const whole = payload instanceof Uint8Array ? payload : undefined;
  if (whole !== undefined) checkCrc(Number(last), { ends: blob, payload: whole, crc });
  return {
    ...shape,
    payload: whole,
    enqueuedAtMs: Number(enqueuedAt),
    expiresAtMs: expiresAt === null ? Infinity : Number(expiresAt) - offsetMs,
  };
}

function inspectedLetterOf(
  row: readonly SqliteValue[],
  payloadBytes: number,
): InspectedDeadLetter {
  const payload = row[8];
  const letter = letterOf(row);
  if (!(payload instanceof Uint8Array)) {
    return { ...letter, bytes: Number(payload), payload: NO_BYTES };
  }
  const bytes = payload.length;
  return {
    ...letter,
    bytes,
    payload: bytes <= payloadBytes ? payload : payload.slice(0, payloadBytes),
  };
}

function outOfOrder(words: string): SqliteError {
  return new SqliteError(SqliteCode.CORRUPT, `its rows are out of order: ${words}`);
}
