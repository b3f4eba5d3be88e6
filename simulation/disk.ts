/**
 * The disk: SQLite in memory, which survives the simulated process, refuses
 * commits or reads on demand, and keeps a mirror of what is committed, so that
 * the checker need not ask the code under test what lies on disk.
 *
 * @module
 */

import {
  SqliteCode,
  type SqliteDatabase,
  type SqliteDriver,
  SqliteError,
  type SqliteStatement,
  type SqliteValue,
} from "../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../src/queue/sqlite/node_sqlite.ts";
import { type DeathReason, isDeathReason } from "../src/queue/store/types.ts";
import { DiskSpace } from "./disk_space.ts";
import { MIN_PACKET_BYTES, splitPackets } from "./packet.ts";

/** What a commit did to the packets. */
export interface DiskWatcher {
  /** Packets that are on disk from now on. */
  stored(id: number, payload: Uint8Array): void;
  /** Packets that are not any more. */
  removed(id: number): void;
  /** Packets that are dead letters from now on. */
  buried(id: number, reason: DeathReason, attempts: number): void;
}

type Kind = "begin" | "commit" | "rollback" | "insert" | "delete" | "edit" | "read" | "other";

/** One disk with one database. */
export class SimDisk {
  readonly #database: SqliteDatabase = nodeSqlite.open(":memory:", {
    readOnly: false,
    busyTimeoutMs: 0,
  });
  readonly #statements = new Map<string, SqliteStatement>();
  readonly #watcher: DiskWatcher;
  #inTransaction = false;
  #inserting: Stored[] = [];
  #deletingThrough = 0;
  /** Whether the transaction changes something in the middle. */
  #editing = false;
  /** Ids in the queue: all committed. */
  readonly ids: Set<number> = new Set();
  /** How full it is. */
  readonly space: DiskSpace;
  /** What the transaction has to write. */
  #writtenBytes = 0;
  /** Why commits fail now. */
  commitFault: "full" | "io" | undefined;
  /** Whether reading packets fails now. */
  readFault = false;

  /**
   * Makes an empty disk.
   *
   * @param diskBytes Its size.
   * @param watcher Told of each commit.
   */
  constructor(diskBytes: number, watcher: DiskWatcher) {
    this.#watcher = watcher;
    const pageCount = this.#database.prepare("PRAGMA page_count");
    this.space = new DiskSpace(diskBytes, () => Number(pageCount.all([])[0]?.[0]));
  }

  /** What the queue opens. */
  get driver(): SqliteDriver {
    return {
      name: "simulated disk",
      open: () => this.#open(),
      diskAt: () => this.space.reading,
    };
  }

  /** Compares the mirror with the file: its counts, and what a reader of its rows would find. */
  mirrorIsTrue(): boolean {
    const database = this.#database;
    const dead = database.prepare("SELECT count(*) FROM dead_letters").all([])[0];
    const found = this.#rows();
    const { packets, deadPackets } = this.#counts();
    return packets === this.ids.size && found.size === this.ids.size &&
      [...found.keys()].every((id) => this.ids.has(id)) && deadPackets === Number(dead?.[0]);
  }

  /** Those of the last row of packets, where it was stored later than the row of `state`. */
  #counts(): { packets: number; removedThrough: number; deadPackets: number } {
    const numbers = (sql: string) => this.#database.prepare(sql).all([])[0]?.map(Number);
    const counts = "last_id, queued_packets, removed_through";
    const state = numbers(`SELECT ${counts}, dead_packets FROM state`) ?? [];
    const row = numbers(`SELECT ${counts} FROM packets ORDER BY last_id DESC LIMIT 1`) ?? [];
    const [, packets = NaN, removedThrough = NaN] = (row[0] ?? 0) > (state[0] ?? 0) ? row : state;
    return { packets, removedThrough, deadPackets: state[3] ?? NaN };
  }

  /** What a reader of the rows finds. */
  #rows(): Map<number, Uint8Array> {
    const database = this.#database;
    const { removedThrough } = this.#counts();
    const rows = database.prepare("SELECT last_id, payload FROM packets ORDER BY last_id").all([]);
    const found = rows.flatMap(storedIn).filter(({ id }) => id > removedThrough);
    return new Map(found.map(({ id, payload }) => [id, payload]));
  }

  /**
   * Changes one byte of a packet that is stored, behind SQLite's back. Its header stays, so
   * that the mirror can still tell which packets lie where.
   *
   * @param place Which byte, in [0, 1).
   * @returns The ids of the packets in its row: none of them can be trusted any more.
   */
  changeByte(place: number): readonly number[] {
    if (this.ids.size === 0) return []; // Perhaps the file has no tables yet.
    const database = this.#database;
    const rows = database.prepare("SELECT last_id, payload FROM packets ORDER BY last_id").all([]);
    const row = rows[Math.floor(place * rows.length)];
    const stored = row === undefined ? [] : storedIn(row);
    const ids = stored.map(({ id }) => id);
    const bodies = stored.filter(({ payload }) => payload.length > MIN_PACKET_BYTES);
    const { payload: body } = bodies[Math.floor(place * 1e6) % bodies.length] ?? {};
    if (row === undefined || body === undefined) return [];
    const at = MIN_PACKET_BYTES + Math.floor(place * 1e9) % (body.length - MIN_PACKET_BYTES);
    body[at] = (body[at] ?? 0) ^ 0x10;
    const [lastId = 0, payload = null] = row;
    database.prepare("UPDATE packets SET payload = ? WHERE last_id = ?").run([payload, lastId]);
    return ids;
  }

  /** Frees the memory. */
  dispose(): void {
    this.#database.close();
  }

  #open(): SqliteDatabase {
    return {
      prepare: (sql) => this.#prepare(sql),
      // The file stays; a handle is nothing but a name for it.
      close: () => {},
    };
  }

  #prepare(sql: string): SqliteStatement {
    // A database in memory has no log; everything else is as on a disk.
    if (/^PRAGMA journal_mode/i.test(sql)) return { run: () => {}, all: () => [["wal"]] };
    const kind = kindOf(sql);
    if (sql.startsWith("PRAGMA wal_checkpoint")) return whenRun(() => this.#checkpoint());
    const vacuum = /^PRAGMA incremental_vacuum\((\d+)\)/.exec(sql)?.[1];
    if (vacuum !== undefined) return whenRun(() => this.#vacuum(sql, Number(vacuum)));
    // Preparing some pragmas applies them, so they are not kept.
    if (sql.startsWith("PRAGMA")) return this.#database.prepare(sql);
    let inner = this.#statements.get(sql);
    if (inner === undefined) {
      inner = this.#database.prepare(sql);
      this.#statements.set(sql, inner);
    }
    const statement = inner;
    return {
      run: (params) => this.#run(kind, statement, params),
      all: (params) => {
        if (kind === "read" && this.readFault) {
          throw new SqliteError(SqliteCode.IOERR, "disk I/O error (simulated)");
        }
        return statement.all(params);
      },
    };
  }

  #checkpoint(): SqliteValue[][] {
    if (!this.space.checkpoint()) throw diskIsFull();
    return [[0, 0, 0]];
  }

  /** Gives pages at the end of the file back: a transaction that moves as many. */
  #vacuum(sql: string, pages: number): SqliteValue[][] {
    if (!this.space.commit(4096 * pages)) throw diskIsFull();
    return this.#database.prepare(sql).all([]);
  }

  #run(kind: Kind, statement: SqliteStatement, params: readonly SqliteValue[]): void {
    for (const value of params) {
      if (value instanceof Uint8Array) this.#writtenBytes += value.length;
    }
    switch (kind) {
      case "begin":
        this.#inTransaction = true;
        this.#inserting = [];
        this.#deletingThrough = 0;
        this.#editing = false;
        this.#writtenBytes = 0;
        break;
      case "insert":
        this.#inserting.push(...storedIn(params));
        break;
      case "delete":
        this.#deletingThrough = Math.max(this.#deletingThrough, Number(params[0]));
        break;
      case "edit":
        this.#editing = true;
        break;
      case "commit":
        this.#failIfFaulty();
        if (!this.space.commit(this.#writtenBytes)) throw diskIsFull();
        statement.run(params);
        this.#committed();
        return;
      case "rollback":
        if (!this.#inTransaction) throw new SqliteError(SqliteCode.ERROR, "no transaction");
        this.#inTransaction = false;
        break;
    }
    statement.run(params);
  }

  #failIfFaulty(): void {
    if (this.commitFault === undefined) return;
    const code = this.commitFault === "full" ? SqliteCode.FULL : SqliteCode.IOERR;
    throw new SqliteError(code, `simulated: ${this.commitFault}`);
  }

  #committed(): void {
    this.#inTransaction = false;
    if (this.#editing) return this.#edited();
    for (const id of this.ids) {
      if (id > this.#deletingThrough) break; // In the order of their storing: by id.
      this.ids.delete(id);
      this.#watcher.removed(id);
    }
    for (const { id, payload } of this.#inserting) {
      this.ids.add(id);
      this.#watcher.stored(id, payload);
    }
  }

  /** After a change in the middle the rows themselves are compared: it is rare. */
  #edited(): void {
    const found = this.#rows();
    const select = this.#database.prepare("SELECT reason, attempts FROM dead_letters WHERE id = ?");
    for (const id of this.ids) {
      if (found.has(id)) continue;
      this.ids.delete(id);
      const [reason, attempts] = select.all([id])[0] ?? [];
      if (reason === undefined) this.#watcher.removed(id);
      else this.#watcher.buried(id, reasonOf(reason), Number(attempts));
    }
    for (const [id, payload] of found) {
      if (this.ids.has(id)) continue;
      this.ids.add(id);
      this.#watcher.stored(id, payload);
    }
  }
}

function diskIsFull(): SqliteError {
  return new SqliteError(SqliteCode.FULL, "simulated: the disk is full");
}

/** A statement that is no SQL. */
function whenRun(work: () => SqliteValue[][]): SqliteStatement {
  return { run: () => void work(), all: work };
}

/** A packet in a row. */
interface Stored {
  readonly id: number;
  readonly payload: Uint8Array;
}

/** The packets in a row that begins with `last_id` and ends with `payload`, by their own headers. */
function storedIn(row: readonly SqliteValue[]): Stored[] {
  const lastId = row[0];
  const bytes = row.at(-1);
  if (!(bytes instanceof Uint8Array)) throw new TypeError("a row of packets without bytes");
  const payloads = splitPackets(bytes);
  const firstId = Number(lastId) + 1 - payloads.length;
  return payloads.map((payload, i) => ({ id: firstId + i, payload }));
}

function reasonOf(value: SqliteValue): DeathReason {
  if (isDeathReason(value)) return value;
  throw new RangeError(`a dead letter died of ${String(value)}`);
}

function kindOf(sql: string): Kind {
  if (sql.startsWith("BEGIN")) return "begin";
  if (sql.startsWith("COMMIT")) return "commit";
  if (sql.startsWith("ROLLBACK")) return "rollback";
  if (sql.startsWith("INSERT INTO packets")) return "insert";
  if (sql.startsWith("DELETE FROM packets WHERE last_id > ")) return "delete";
  if (
    /^UPDATE packets|^DELETE FROM packets WHERE last_id BETWEEN|^(INSERT OR IGNORE INTO|DELETE FROM) dead_letters/
      .test(sql)
  ) return "edit";
  if (/^SELECT packets\.last_id - 0, ends, payload\b/.test(sql)) return "read";
  return "other";
}
