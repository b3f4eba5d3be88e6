/**
 * The transactions of a spool: each queue does its work as if it had one of its own, and those
 * that come together share one, and with it a sync of the disk.
 */

import { isOutcomeUnknown } from "../base/errors.ts";
import type { SqliteStatement } from "../queue/sqlite/driver.ts";
import { isDiskFull } from "../queue/sqlite/file_error.ts";
import type { DatabaseFile } from "../queue/store/database_file.ts";
import { commitError, fileError } from "../queue/store/transaction.ts";
import type { Transactions } from "../queue/store/transactions.ts";

/** Something to do in a transaction, for one queue. */
export interface Work<T> {
  /** Does it; may be called once more after it has been undone. */
  readonly run: () => T;
  /** Whether it makes room: on a full disk it is done before what stores. */
  readonly makesRoom: boolean;
}

/** What became of it. */
export type Outcome<T> =
  | { readonly done: true; readonly value: T }
  | { readonly done: false; readonly error: unknown };

export class SharedTransactions implements Transactions {
  readonly #own: Transactions;
  readonly #path: string;
  readonly #savepoint: SqliteStatement;
  readonly #release: SqliteStatement;
  readonly #undo: SqliteStatement;
  /** While several share one. */
  #shared:
    | { changed: boolean; storedBytes: number; buriedBytes: number; isLost: boolean }
    | undefined;

  /** @param own Those that nobody shares. */
  constructor({ database, path }: DatabaseFile, own: Transactions) {
    this.#own = own;
    this.#path = path;
    this.#savepoint = database.prepare("SAVEPOINT one_queue");
    this.#release = database.prepare("RELEASE one_queue");
    this.#undo = database.prepare("ROLLBACK TO one_queue");
  }

  get lastCommitMs(): number {
    return this.#own.lastCommitMs;
  }

  get buryBytes(): number {
    return this.#own.buryBytes;
  }

  begin(): void {
    if (this.#shared === undefined) this.#own.begin();
    else this.#savepoint.run([]);
  }

  beginRead(): void {
    this.#own.beginRead();
  }

  /** See {@linkcode Transactions.checkRoom}; of a shared one all of it is looked at, at its end. */
  checkRoom(storedBytes: number, buriedBytes: number): void {
    const shared = this.#shared;
    if (shared === undefined) return this.#own.checkRoom(storedBytes, buriedBytes);
    shared.storedBytes += storedBytes;
    shared.buriedBytes += buriedBytes;
  }

  commit(): void {
    if (this.#shared === undefined) return this.#own.commit();
    this.#release.run([]);
    this.#shared.changed = true;
  }

  rollBack(): void {
    if (this.#shared === undefined) return this.#own.rollBack();
    try {
      this.#undo.run([]);
      this.#release.run([]);
    } catch {
      // SQLite has rolled all of it back, as it does when the disk is full.
      this.#shared.isLost = true;
    }
  }

  /**
   * Does the work of several queues, in one transaction. What fails of it is undone and fails
   * alone, for example because a queue is damaged. Where there is no room, or all of it is undone,
   * each queue has a transaction of its own, those first that make room.
   *
   * @returns What became of each, in their order.
   */
  share<T>(works: readonly Work<T>[]): Outcome<T>[] {
    if (works.length > 1) {
      const outcome = this.#together(works);
      if (outcome !== undefined) return outcome;
    }
    const outcomes = new Map<Work<T>, Outcome<T>>();
    for (const work of works.toSorted((a, b) => Number(b.makesRoom) - Number(a.makesRoom))) {
      outcomes.set(work, alone(work));
    }
    return works.flatMap((work) => outcomes.get(work) ?? []);
  }

  /** @returns `undefined`: nothing was done. */
  #together<T>(works: readonly Work<T>[]): Outcome<T>[] | undefined {
    const failed = (error: unknown): Outcome<T>[] => works.map(() => ({ done: false, error }));
    try {
      this.#own.begin();
    } catch (error) {
      // Typically another process writes: each would wait for it.
      return failed(fileError(error, this.#path));
    }
    let committing = false;
    const shared = this.#shared = { changed: false, storedBytes: 0, buriedBytes: 0, isLost: false };
    try {
      const outcomes = works.map((work): Outcome<T> => {
        const outcome = alone(work);
        if (!outcome.done && (shared.isLost || isDiskFull(outcome.error))) throw outcome.error;
        return outcome;
      });
      if (shared.changed) {
        this.#own.checkRoom(shared.storedBytes, shared.buriedBytes);
        committing = true;
        this.#own.commit();
      } else {
        this.#own.rollBack();
      }
      return outcomes;
    } catch (error) {
      this.#own.rollBack();
      const told = committing ? commitError(error, this.#path) : undefined;
      // What may be on the disk is not stored a second time.
      return isOutcomeUnknown(told) ? failed(told) : undefined;
    } finally {
      this.#shared = undefined;
    }
  }
}

function alone<T>({ run }: Work<T>): Outcome<T> {
  try {
    return { done: true, value: run() };
  } catch (error) {
    return { done: false, error };
  }
}
