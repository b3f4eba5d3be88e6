/**
 * Stands in for `jsr:@db/sqlite` in sendq's own checks, where JSR cannot be
 * reached. It is not that library, and who uses sendq never runs it: it is
 * published because `deno publish` wants every module that it has checked.
 *
 * @module
 */

import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";

/** By this a test knows that it has not met the real library. */
export const isStandIn = true;

/** As the real library's options, as far as they are used here. */
export interface DatabaseOpenOptions {
  /** Open without the right to write. */
  readonly readonly?: boolean;
  /** Whether a file that is not there is made; here always, unless it is read only. */
  readonly create?: boolean;
  /** Integers in full; the real library cuts them to 32 bits without it. */
  readonly int64?: boolean;
}

/** A prepared statement. */
export class Statement {
  readonly #statement: StatementSync;

  /** Not for callers: {@linkcode Database.prepare} makes it. */
  constructor(statement: StatementSync) {
    if (!hasReturnArrays(statement)) throw new TypeError("node:sqlite lacks setReturnArrays");
    statement.setReturnArrays(true);
    statement.setReadBigInts(true);
    this.#statement = statement;
  }

  /** Runs it, and returns how many rows it has changed. */
  run(...params: SQLInputValue[]): number {
    return textOnly(() => Number(this.#statement.run(...params).changes));
  }

  /** Its rows as arrays of columns; integers beyond 2^53 as `bigint`. */
  values(...params: SQLInputValue[]): unknown[][] {
    return textOnly(() => this.#statement.all(...params)).map((row) =>
      Object.values(row).map(narrowed)
    );
  }
}

/** A database. */
export class Database {
  readonly #database: DatabaseSync;

  /** Opens it. Errors carry only SQLite's text, as those of the real library's statements. */
  constructor(path: string, { readonly: readOnly = false, int64 }: DatabaseOpenOptions = {}) {
    if (int64 !== true) throw new TypeError("the stand-in for @db/sqlite reads 64 bits only");
    this.#database = textOnly(() => new DatabaseSync(path, { readOnly }));
  }

  /** Compiles one statement. */
  prepare(sql: string): Statement {
    return textOnly(() => new Statement(this.#database.prepare(sql)));
  }

  /** Closes it. */
  close(): void {
    this.#database.close();
  }
}

/** In the runtime, but not yet in Deno's types. */
function hasReturnArrays(
  statement: StatementSync,
): statement is StatementSync & { setReturnArrays(enabled: boolean): void } {
  return "setReturnArrays" in statement;
}

function narrowed(column: unknown): unknown {
  const number = typeof column === "bigint" ? Number(column) : undefined;
  return Number.isSafeInteger(number) ? number : column;
}

/** Errors lose what only `node:sqlite` tells: the adapter must do without. */
function textOnly<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof Error) || error.name === "NotCapable") throw error;
    throw new Error(error.message);
  }
}
