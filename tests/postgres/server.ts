/** PostgreSQL servers of a test's own: made in a temporary directory, and removed with it. */
import assert from "node:assert/strict";
import { setUp } from "../../src/postgres/setup.ts";
import { ScriptedServer } from "../support/scripted_server.ts";

const DIRECTORIES = [
  ...[18, 17, 16, 15, 14].map((version) => `/usr/lib/postgresql/${version}/bin`),
  "/usr/bin",
];
const BIN = DIRECTORIES.find((directory) => {
  try {
    return Deno.statSync(`${directory}/initdb`).isFile;
  } catch {
    return false;
  }
});

/** Why servers cannot be started here. */
export const NO_POSTGRES: string | undefined = BIN === undefined
  ? "PostgreSQL is not installed: apt-get install postgresql"
  : undefined;

/** Nobody: PostgreSQL does not run as root. */
const AS = Deno.uid() === 0 ? { uid: 65534, gid: 65534 } : {};
/** Small and quick to start; what matters to durability is as it is by default. */
const SETTINGS = `
listen_addresses = '127.0.0.1'
shared_buffers = 16MB
max_connections = 60
max_wal_size = 1GB
autovacuum_naptime = 5s
wal_level = replica
max_wal_senders = 5
logging_collector = off
`;

async function run(program: string, args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(`${BIN}/${program}`, {
    args: [...args],
    ...AS,
    env: { LC_ALL: "C" },
    stdout: "piped",
    stderr: "piped",
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assert(success, `${program} ${args.join(" ")}: ${text.decode(stderr)}${text.decode(stdout)}`);
  return text.decode(stdout);
}

/** What initdb makes takes a second of a processor: it is made once for this checkout. */
const SCRATCH = new URL("../../.scratch", import.meta.url).pathname;
const TEMPLATE = `${SCRATCH}/initdb-${BIN?.replaceAll("/", "-")}-${Deno.uid()}`;

async function makeTemplate(directory: string): Promise<void> {
  await run("initdb", ["-D", directory, "-A", "trust", "-U", "postgres", "-k", "--no-sync"]);
  Deno.mkdirSync(SCRATCH, { recursive: true });
  const unfinished = `${TEMPLATE}-${crypto.randomUUID()}`;
  copy(directory, unfinished);
  try {
    Deno.renameSync(unfinished, TEMPLATE);
  } catch {
    // Another test was quicker.
    Deno.removeSync(unfinished, { recursive: true });
  }
}

function copy(from: string, to: string): void {
  const { success, stderr } = new Deno.Command("cp", { args: ["-a", from, to] }).outputSync();
  assert(success, new TextDecoder().decode(stderr));
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** A server with its directory. */
export class PostgresServer implements AsyncDisposable {
  readonly directory: string;
  readonly port: number;
  readonly #parent: string;

  private constructor(parent: string, port: number) {
    this.#parent = parent;
    this.directory = `${parent}/data`;
    this.port = port;
  }

  /** Makes a server and starts it. */
  static async start(): Promise<PostgresServer> {
    const server = PostgresServer.#make();
    if (!isDirectory(TEMPLATE)) await makeTemplate(server.directory);
    else copy(TEMPLATE, server.directory);
    server.set(SETTINGS);
    await server.up();
    return server;
  }

  static #make(): PostgresServer {
    const parent = Deno.makeTempDirSync({ prefix: "sendq-postgres-" });
    if (Deno.uid() === 0) Deno.chownSync(parent, 65534, 65534);
    return new PostgresServer(parent, ScriptedServer.freePort());
  }

  /** Makes a standby that streams from this server under a name. */
  async standby(name: string): Promise<PostgresServer> {
    const standby = PostgresServer.#make();
    await run("pg_basebackup", [
      ...["-D", standby.directory, "-h", "127.0.0.1", "-p", String(this.port), "-U", "postgres"],
      ...["-c", "fast", "-R", "--no-sync"],
    ]);
    standby.set(
      `primary_conninfo = 'host=127.0.0.1 port=${this.port} user=postgres application_name=${name}'`,
    );
    await standby.up();
    return standby;
  }

  /** Adds settings; those of the last call win. They count from the next start or reload on. */
  set(settings: string): void {
    Deno.writeTextFileSync(`${this.directory}/postgresql.auto.conf`, `${settings}\n`, {
      append: true,
    });
  }

  async reload(): Promise<void> {
    await run("pg_ctl", ["reload", "-D", this.directory]);
  }

  /** Starts it. */
  async up(): Promise<void> {
    await run("pg_ctl", [
      ...["start", "-w", "-D", this.directory, "-l", `${this.#parent}/log`],
      ...["-o", `-p ${this.port} -k ${this.#parent}`],
    ]);
  }

  /** Stops it: `"fast"` in order, `"immediate"` as a crash. */
  async down(how: "fast" | "immediate" = "immediate"): Promise<void> {
    await run("pg_ctl", ["stop", "-w", "-m", how, "-D", this.directory]);
  }

  /**
   * Restarts it with so few numbers of transactions left that it warns at each commit. A table of
   * which it cannot vacuum keeps it from finding more.
   */
  async runOutOfTransactions(): Promise<void> {
    await this.sql("CREATE TABLE public.kept AS SELECT 1");
    const spoilt = "relfrozenxid = (txid_current() + 1)::text::xid";
    await this.sql(`UPDATE pg_class SET ${spoilt} WHERE relname = 'kept'`);
    await this.down("fast");
    const inSegment = 2 ** 20;
    const segment = Math.floor(2.11e9 / inSegment);
    const name = segment.toString(16).toUpperCase().padStart(4, "0");
    await run("pg_resetwal", ["-x", String(segment * inSegment), "-D", this.directory]);
    const file = `${this.directory}/pg_xact/${name}`;
    Deno.writeFileSync(file, new Uint8Array(2 ** 18));
    if (AS.uid !== undefined) Deno.chownSync(file, AS.uid, AS.gid);
    await this.up();
  }

  async promote(): Promise<void> {
    await run("pg_ctl", ["promote", "-w", "-D", this.directory]);
  }

  /** A database's address; with a name, that of a queue in it. */
  url(name = "", database = "postgres", user = "postgres"): string {
    const queue = name === "" ? "" : `/${name}`;
    return `postgres://${user}@127.0.0.1:${this.port}/${database}${queue}`;
  }

  /** Runs SQL, and returns what it prints, without decoration. */
  async sql(text: string, database = "postgres"): Promise<string> {
    const out = await run("psql", [
      ...["-h", "127.0.0.1", "-p", String(this.port), "-U", "postgres", "-d", database],
      ...["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text],
    ]);
    return out.trim();
  }

  /** Changes rows as a disk or the memory does it: no trigger of the schema sees that. */
  async damage(text: string, database?: string): Promise<void> {
    await this.sql(`SET session_replication_role = replica; ${text}`, database);
  }

  /** Has the schema go by a clock that stands still. */
  async setClock(wallMs: number): Promise<void> {
    await this.sql(
      "CREATE OR REPLACE FUNCTION sendq.now_ms() RETURNS bigint LANGUAGE plpgsql " +
        `AS $$ BEGIN RETURN ${wallMs}; END $$`,
    );
  }

  /** Makes a queue; the schema before, where there is none. */
  async makeQueue(name: string): Promise<string> {
    await setUp(this.url(name));
    return this.url(name);
  }

  /** What the server has written about itself. */
  get log(): string {
    return Deno.readTextFileSync(`${this.#parent}/log`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down().catch(() => {});
    Deno.removeSync(this.#parent, { recursive: true });
  }
}
