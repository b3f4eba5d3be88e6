/** Makes a driver of the class `Database` of `@db/sqlite`, as far as it is used. */

import {
  codeFromText,
  LARGE_NUMBER_WORDS,
  SqliteCode,
  type SqliteDriver,
  SqliteError,
  type SqliteStatement,
  type SqliteValue,
} from "../queue/sqlite/driver.ts";

export interface DbSqliteStatement {
  /** Runs it; the number returned is stale for anything but INSERT, UPDATE, DELETE. */
  run(...params: SqliteValue[]): number;
  values(...params: SqliteValue[]): unknown[][];
}

export interface DbSqliteDatabase {
  prepare(sql: string): DbSqliteStatement;
  close(): void;
}

/** `@db/sqlite`'s class `Database`, as far as it is used. */
export interface DbSqliteConstructor {
  new (
    path: string,
    options: { readonly readonly: boolean; readonly create: boolean; readonly int64: boolean },
  ): DbSqliteDatabase;
}

/** @param Database The class that `@db/sqlite` exports, 0.13 or newer. */
export function driverOf(Database: DbSqliteConstructor): SqliteDriver {
  return {
    name: "@db/sqlite",
    open(path, { readOnly, busyTimeoutMs }) {
      return guard(() => {
        // Without int64 it would cut every integer to 32 bits.
        const database = new Database(path, { readonly: readOnly, create: !readOnly, int64: true });
        const prepare = (sql: string) => guard(() => new DbStatement(database.prepare(sql)));
        prepare(`PRAGMA busy_timeout = ${busyTimeoutMs}`).all([]);
        return { prepare, close: () => guard(() => database.close()) };
      });
    },
  };
}

class DbStatement implements SqliteStatement {
  readonly #statement: DbSqliteStatement;

  constructor(statement: DbSqliteStatement) {
    this.#statement = statement;
  }

  run(params: readonly SqliteValue[]): void {
    guard(() => this.#statement.run(...params));
  }

  all(params: readonly SqliteValue[]): SqliteValue[][] {
    return guard(() => this.#statement.values(...params).map((row) => row.map(valueOf)));
  }
}

function valueOf(column: unknown): SqliteValue {
  if (typeof column === "bigint" && !Number.isSafeInteger(Number(column))) {
    throw new SqliteError(SqliteCode.CORRUPT, LARGE_NUMBER_WORDS);
  }
  if (
    column === null || typeof column === "number" || typeof column === "bigint" ||
    typeof column === "string" || column instanceof Uint8Array
  ) return column;
  throw new TypeError(`@db/sqlite returned a column of type ${typeof column}`);
}

function guard<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw normalised(error);
  }
}

/** Errors of opening carry `code`; those of statements only SQLite's text. */
function normalised(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof SqliteError) return error;
  if (error instanceof Deno.errors.NotCapable || error instanceof TypeError) return error;
  const code = "code" in error && typeof error.code === "number"
    ? error.code
    : codeFromText(error.message);
  return new SqliteError(code, error.message, { cause: error });
}
