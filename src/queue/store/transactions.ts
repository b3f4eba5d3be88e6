import { diskAt, diskShares } from "../sqlite/disk_space.ts";
import type { SqliteDriver, SqliteStatement } from "../sqlite/driver.ts";
import { LogRoom } from "../sqlite/log_room.ts";
import type { DatabaseFile } from "./database_file.ts";

export interface Transactions {
  /** How long COMMIT took the last time that it had something to do. */
  readonly lastCommitMs: number;
  /** Begins one that writes. */
  begin(): void;
  /** Begins one that reads a single state of the file. */
  beginRead(): void;
  /** See `DiskShares`. */
  readonly buryBytes: number;
  /**
   * Asked before `Transactions.commit`.
   *
   * @param storedBytes Those of the packets that were stored.
   * @param buriedBytes Those of the dead letters that were made, with their rows.
   * @throws {QueueFileError} The disk is too full for them.
   */
  checkRoom(storedBytes: number, buriedBytes: number): void;
  /** Ends it; what it has done counts. */
  commit(): void;
  /** Ends it; what it has done is undone. Harmless where it has ended. */
  rollBack(): void;
}

/** Those of a connection, one at a time. */
export class FileTransactions implements Transactions {
  lastCommitMs = 0;
  readonly buryBytes: number;
  readonly #file: DatabaseFile;
  readonly #nowMs: () => number;
  readonly #logRoom: LogRoom;
  readonly #begin: SqliteStatement;
  readonly #beginRead: SqliteStatement;
  readonly #commit: SqliteStatement;
  readonly #rollback: SqliteStatement;

  /** @param options `driver`: whose file it is; `nowMs`: monotonic milliseconds. */
  constructor(
    file: DatabaseFile,
    { driver, nowMs }: { readonly driver: SqliteDriver; readonly nowMs: () => number },
  ) {
    const { database, path } = file;
    this.#file = file;
    this.#nowMs = nowMs;
    const look = driver.diskAt ?? diskAt;
    this.buryBytes = diskShares(look(path)?.diskBytes).buryBytes;
    this.#logRoom = new LogRoom({ path, database, look: () => look(path), nowMs });
    this.#begin = database.prepare("BEGIN IMMEDIATE");
    this.#beginRead = database.prepare("BEGIN DEFERRED");
    this.#commit = database.prepare("COMMIT");
    this.#rollback = database.prepare("ROLLBACK");
  }

  begin(): void {
    this.#file.syncAgain();
    this.#begin.run([]);
  }

  beginRead(): void {
    this.#beginRead.run([]);
  }

  checkRoom(storedBytes: number, buriedBytes: number): void {
    if (storedBytes > 0) this.#logRoom.check(storedBytes);
    if (buriedBytes > 0) this.#logRoom.checkBuried(buriedBytes);
    if (storedBytes + buriedBytes === 0) this.#logRoom.checkRemoved();
  }

  commit(): void {
    const beganMs = this.#nowMs();
    this.#commit.run([]);
    this.lastCommitMs = this.#nowMs() - beganMs;
  }

  rollBack(): void {
    try {
      this.#rollback.run([]);
    } catch {
      // SQLite has rolled back by itself, as it does when the disk is full.
    }
  }
}
