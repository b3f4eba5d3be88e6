import assert from "node:assert/strict";
import {
  SqliteCode,
  type SqliteDatabase,
  type SqliteDriver,
  SqliteError,
  type SqliteStatement,
  type SqliteValue,
} from "../../src/queue/sqlite/driver.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { TempDir } from "../support/temp_dir.ts";

/** Events that are due, and what follows from them: transactions, for example. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** node:sqlite with a log of what was run and faults on demand. */
export class FaultDriver implements SqliteDriver {
  readonly name = "node:sqlite with faults";
  readonly log: string[] = [];
  /** Whether a fault ends the transaction, as SQLite does when the disk is full, for example. */
  rollsBack = false;
  /** Asked before each statement; what it returns is thrown instead. */
  fault: (sql: string, largestBytes: number) => SqliteError | undefined = () => undefined;

  open(path: string, options: { readOnly: boolean; busyTimeoutMs: number }): SqliteDatabase {
    const database = nodeSqlite.open(path, options);
    return {
      prepare: (sql) => this.#wrap(sql, database.prepare(sql), () => this.#rollBack(database)),
      close: () => database.close(),
    };
  }

  /** What a fault throws. */
  static error(code: number): SqliteError {
    return new SqliteError(code, `injected ${code}`);
  }

  /** Fails the next `times` statements that begin with `start`. */
  failNext(start: string, code: number, times = 1): void {
    let left = times;
    this.fault = (sql) => {
      if (left === 0 || !sql.startsWith(start)) return undefined;
      left--;
      return FaultDriver.error(code);
    };
  }

  heal(): void {
    this.fault = () => undefined;
  }

  #rollBack(database: SqliteDatabase): void {
    if (!this.rollsBack) return;
    try {
      database.prepare("ROLLBACK").run([]);
    } catch {
      // There is none.
    }
  }

  #wrap(sql: string, statement: SqliteStatement, rollBack: () => void): SqliteStatement {
    const word = sql.split(/\s/, 1)[0] ?? "";
    return {
      run: (params) => {
        const error = this.fault(sql, largestBlob(params));
        if (error !== undefined) rollBack();
        if (error !== undefined) throw error;
        statement.run(params);
        this.log.push(word);
      },
      all: (params) => {
        const error = this.fault(sql, 0);
        if (error !== undefined) rollBack();
        if (error !== undefined) throw error;
        return statement.all(params);
      },
    };
  }
}

function largestBlob(params: readonly SqliteValue[]): number {
  return params.reduce<number>((m, p) => p instanceof Uint8Array ? Math.max(m, p.length) : m, 0);
}

/** node:sqlite whose connections that may write report an error when they are closed. */
export const failsToClose: SqliteDriver = {
  name: "node:sqlite that fails to close",
  open(path, options) {
    const database = nodeSqlite.open(path, options);
    return {
      prepare: (sql) => database.prepare(sql),
      close() {
        database.close();
        if (!options.readOnly) throw new SqliteError(SqliteCode.IOERR, "injected on close");
      },
    };
  },
};

/** A child script of these tests, with the flags that it needs and no others. */
export function child(script: string, database: string, ...args: string[]): Deno.ChildProcess {
  const files = `${database},${database}.lock`;
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--no-lock",
      `--allow-read=${args.includes("threads") ? `${files},${database}-wal` : files}`,
      `--allow-write=${files}`,
      new URL(`./children/${script}`, import.meta.url).pathname,
      database,
      ...args,
    ],
    stdout: "piped",
    stderr: "inherit",
    stdin: "null",
  }).spawn();
}

/** The lines of a stream as they come. */
export function lines(stream: ReadableStream<Uint8Array>): AsyncIterableIterator<string> {
  async function* generate(): AsyncGenerator<string> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      yield* parts;
    }
  }
  return generate();
}

export async function sha256(path: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", Deno.readFileSync(path));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Mounts a tmpfs where this process may; else says why not. */
export function mountTmpfs(path: string, options: string): { unmount(): void } | string {
  try {
    if (Deno.uid() !== 0) return "mounting a tmpfs needs root";
    Deno.mkdirSync(path, { recursive: true });
    const mount = new Deno.Command("mount", {
      args: ["-t", "tmpfs", "-o", options, "tmpfs", path],
      stderr: "piped",
    }).outputSync();
    if (!mount.success) return `mount: ${new TextDecoder().decode(mount.stderr).trim()}`;
    return {
      unmount() {
        assert(new Deno.Command("umount", { args: [path] }).outputSync().success);
      },
    };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Remounts read-only. */
export function remountReadOnly(path: string): void {
  assert(new Deno.Command("mount", { args: ["-o", "remount,ro", path] }).outputSync().success);
}

/** Whether a tmpfs can be mounted here: why not, if not. */
export const NO_TMPFS: string | undefined = (() => {
  using dir = new TempDir();
  const mounted = mountTmpfs(`${dir.path}/probe`, "size=64k");
  if (typeof mounted === "string") return mounted;
  mounted.unmount();
  return undefined;
})();

/** `ignore` with its reason in the name, so that the report shows it. */
export function unless(
  reason: string | undefined,
  name: string,
): { name: string; ignore: boolean } {
  return reason === undefined
    ? { name, ignore: false }
    : { name: `${name} (ignored: ${reason})`, ignore: true };
}
