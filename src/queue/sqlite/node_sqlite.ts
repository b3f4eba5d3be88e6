/**
 * `node:sqlite`, the SQLite in Deno's own runtime: no download, no FFI grant,
 * only read and write permission for the file.
 */

import { backup, DatabaseSync, type StatementSync } from "node:sqlite";
import {
  codeFromText,
  isSqliteError,
  LARGE_NUMBER_WORDS,
  SqliteCode,
  type SqliteDriver,
  SqliteError,
  type SqliteOpenOptions,
  type SqliteStatement,
  type SqliteValue,
} from "./driver.ts";
import { saysTooManyFiles, whatOfWrite, wordsOfOpening } from "./file_error.ts";

/**
 * The default driver.
 *
 * @category SQLite driver
 */
export const nodeSqlite: SqliteDriver = {
  name: "node:sqlite",
  open(path, { readOnly, busyTimeoutMs }) {
    const file = { path, readOnly };
    return guard(() => {
      const database = openPatiently(path === IN_MEMORY ? path : asFile(path), {
        readOnly,
        busyTimeoutMs,
      });
      return {
        prepare: (sql) => guard(() => new NodeStatement(database.prepare(sql), file), file),
        close: () => guard(() => database.close(), file),
      };
    }, file);
  },
};

/** Of one that is opened to read only, Deno leaves `timeout` out, and waits 5 s in the loop. */
function openPatiently(path: string, { readOnly, busyTimeoutMs }: SqliteOpenOptions): DatabaseSync {
  const database = new DatabaseSync(path, { readOnly });
  database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
  return database;
}

const IN_MEMORY = ":memory:";

/** A path in words that mean nothing else to SQLite, as `file:` and `:memory:` do. */
function asFile(path: string): string {
  return path.startsWith("/") ? path : `./${path}`;
}

/**
 * SQLite's own backup, in one step: in several, each commit of somebody else would make it begin
 * anew. See `copyDatabase`.
 */
export async function copyPages(from: string, to: string, busyTimeoutMs: number): Promise<void> {
  const database = guard(() => openPatiently(asFile(from), { readOnly: true, busyTimeoutMs }), {
    path: from,
    readOnly: true,
  });
  try {
    await backup(database, asFile(to), { rate: -1 });
  } catch (error) {
    throw normalised(error, { path: to, readOnly: false });
  } finally {
    database.close();
  }
}

/** The file that an error is about. */
interface OpenedFile {
  readonly path: string;
  readonly readOnly: boolean;
}

class NodeStatement implements SqliteStatement {
  readonly #statement: StatementSync;
  readonly #file: OpenedFile;

  constructor(statement: StatementSync, file: OpenedFile) {
    this.#file = file;
    // In the runtime, but not yet in Deno's types.
    if (!hasReturnArrays(statement)) {
      throw new TypeError("This runtime's node:sqlite is too old: setReturnArrays is missing");
    }
    statement.setReturnArrays(true);
    this.#statement = statement;
  }

  run(params: readonly SqliteValue[]): void {
    try {
      this.#statement.run(...params);
    } catch (error) {
      throw normalised(error, this.#file);
    }
  }

  all(params: readonly SqliteValue[]): SqliteValue[][] {
    try {
      return this.#statement.all(...params).map(rowOf);
    } catch (error) {
      throw normalised(error, this.#file);
    }
  }
}

function hasReturnArrays(
  statement: StatementSync,
): statement is StatementSync & { setReturnArrays(enabled: boolean): void } {
  return "setReturnArrays" in statement;
}

function rowOf(row: unknown): SqliteValue[] {
  if (!Array.isArray(row)) throw new TypeError("node:sqlite did not return rows as arrays");
  return row;
}

function guard<T>(call: () => T, file: OpenedFile): T {
  for (let isAgain = false;; isAgain = true) {
    try {
      return call();
    } catch (error) {
      const told = normalised(error, file);
      // A thread of the runtime may have had the last descriptor, for a moment.
      if (isAgain || !isSqliteError(told, SqliteCode.CANTOPEN) || saysTooManyFiles(told)) {
        throw told;
      }
    }
  }
}

/**
 * Errors of statements carry `errcode`; those of opening carry only a text, and
 * a missing permission is an `Error` that merely has the name `NotCapable`.
 */
function normalised(error: unknown, { path, readOnly }: OpenedFile): unknown {
  if (!(error instanceof Error)) return error;
  if (error.name === "NotCapable") {
    return new Deno.errors.NotCapable(error.message, { cause: error });
  }
  if ("errcode" in error && typeof error.errcode === "number") {
    // The file was cut off: whoever reads it again finds no more of it.
    if (error.errcode === SqliteCode.IOERR_SHORT_READ) {
      const words = "a page of the file lies behind its end";
      return new SqliteError(SqliteCode.CORRUPT, words, { cause: error });
    }
    const { code, words = wordsOf(code, error, path) } = readOnly
      ? { code: error.errcode }
      : whatOfWrite(error.errcode, path);
    return new SqliteError(code, words, { cause: error });
  }
  // No sendq has ever written such a number.
  if (error instanceof RangeError && "code" in error && error.code === "ERR_OUT_OF_RANGE") {
    return new SqliteError(SqliteCode.CORRUPT, LARGE_NUMBER_WORDS, { cause: error });
  }
  if ("code" in error && error.code === "ERR_SQLITE_ERROR") {
    const code = codeFromText(error.message);
    return new SqliteError(code, wordsOf(code, error, path), { cause: error });
  }
  return error;
}

function wordsOf(code: number, { message }: Error, path: string): string {
  return (code & 0xff) === SqliteCode.CANTOPEN ? wordsOfOpening(message, path) : message;
}
