/**
 * Looking into a queue on PostgreSQL without touching it, also while a sender works on it.
 *
 * Invariants:
 *
 * 1. Nothing is written: each question is a function of the schema that only reads.
 * 2. A page of packets is one snapshot: packets and counts in it are of one moment. Between
 *    two pages nothing is held, so that old rows can be cleaned away. Only
 *    {@linkcode PostgresInspector.check} is one snapshot as a whole.
 * 3. Memory is bounded by a page, however long the queue.
 */

import { systemClock } from "../base/clock.ts";
import { QueueFileError } from "../base/errors.ts";
import { checkFields } from "../base/options.ts";
import type { Clock } from "../base/ports.ts";
import {
  type InspectedDeadLetter,
  type InspectedPacket,
  type Inspector,
  type InspectQuery,
  type InspectRange,
  problemsOf,
  type QueueCounts,
} from "../queue/inspect/inspection.ts";
import type { QueueProblem } from "../queue/inspect/integrity.ts";
import {
  boundsOf,
  countPacketsOnPages,
  firstOf,
  type InspectedBatch,
  type LetterPage,
  lettersOnPages,
  NO_BYTES,
  type PacketPage,
  packetsOnPages,
  PAGE_BYTES,
  PAGE_ROWS,
} from "../queue/inspect/pages.ts";
import { isDeathReason, type PacketCount } from "../queue/store/types.ts";
import { formatAddress } from "./address.ts";
import { askAgain, Database, type Row } from "./database.ts";
import { NO_QUEUE, queueErrorOf, removedQueue, sqlStateOf } from "./errors.ts";
import { type PostgresQueueOptions, settingsOf } from "./options.ts";
import { checkVersion } from "./setup.ts";
import { countsOf, endsOf, faultOfEnds, letterOf, stateFields, stateOf } from "./state_of.ts";

/**
 * Where to look.
 *
 * @category Queue
 */
export type PostgresInspectOptions = Pick<
  PostgresQueueOptions,
  "url" | "name" | "password" | "answerTimeoutMs" | "busyTimeoutMs" | "clock"
>;

const OPTIONS: readonly (keyof PostgresInspectOptions)[] = [
  ...["url", "name", "password", "answerTimeoutMs", "busyTimeoutMs", "clock"] as const,
];

const LOSS_TIMEOUT_MS = 10_000;
/** All of a queue is looked at in one question. */
const CHECK_TIMEOUT_MS = 3_600_000;
const KINDS: ReadonlySet<unknown> = new Set<QueueProblem["kind"]>([
  "pages",
  "counts",
  "packets",
  "dead-letters",
]);

/**
 * Opens a queue on PostgreSQL for looking. A sender and programs that enqueue may go on
 * working beside it.
 *
 * Needs `--allow-net` for the servers. The user needs the role `sendq_operator` to look at
 * packets and dead letters; counts are for `sendq_producer`, too.
 *
 * @param options Where it is.
 * @throws {OptionError} An option is out of range.
 * @throws {QueueFileError} The database cannot be reached, does not know the user, has no such
 *   queue, or a schema of another version.
 * @throws {Deno.errors.NotCapable} `--allow-net` is missing.
 * @category Queue
 * @example List what waits in a queue
 * ```ts ignore
 * import { postgresInspector } from "@sendq/sendq/postgres";
 *
 * using inspector = await postgresInspector({ url: "postgres://op@db1,db2/packets/outbox" });
 * for await (const { id, bytes, state } of inspector.packets()) {
 *   console.log(id, bytes, state); // 1 6 "waiting"
 * }
 * ```
 */
export async function postgresInspector(options: PostgresInspectOptions): Promise<Inspector> {
  checkFields("", options, OPTIONS);
  const { address, answerTimeoutMs } = settingsOf(options);
  const { clock = systemClock, busyTimeoutMs = LOSS_TIMEOUT_MS } = options;
  const path = formatAddress(address);
  const connection = { address, clock: systemClock, waitsForStandby: false };
  const database = new Database({ ...connection, answerTimeoutMs });
  try {
    const text = "SELECT sendq.open_queue($1) AS found";
    const [row] = await askAgain(database, text, [address.name], {
      timeoutMs: busyTimeoutMs,
      isOver: () => false,
    });
    const { version } = Object(row?.["found"]);
    checkVersion(path, version);
    return new PostgresInspector({
      ...{ path, version, database, clock, busyTimeoutMs },
      name: address.name,
      openForCheck: () => new Database({ ...connection, answerTimeoutMs: CHECK_TIMEOUT_MS }),
    });
  } catch (error) {
    database.close();
    throw queueErrorOf(error, path);
  }
}

interface InspectorParts {
  readonly path: string;
  readonly version: number;
  readonly database: Database;
  readonly name: string;
  readonly clock: Clock;
  readonly busyTimeoutMs: number;
  /** A connection on which an answer may take long. */
  readonly openForCheck: () => Database;
}

class PostgresInspector implements Inspector {
  readonly path: string;
  readonly version: number;
  readonly #parts: InspectorParts;

  constructor(parts: InspectorParts) {
    this.path = parts.path;
    this.version = parts.version;
    this.#parts = parts;
  }

  async counts(): Promise<QueueCounts> {
    const [row] = await this.#ask("SELECT sendq.state($1) AS state", []);
    return countsOf(stateOf(stateFields(row?.["state"])));
  }

  packets(query: InspectQuery = {}): AsyncGenerator<InspectedPacket> {
    return packetsOnPages((after) => this.#packetPage(after, query), query);
  }

  countPackets(range: InspectRange = {}): Promise<PacketCount> {
    return countPacketsOnPages((after) => this.#packetPage(after, {}), range);
  }

  packet(id: number): Promise<InspectedPacket | undefined> {
    return firstOf(this.packets({ fromId: id, toId: id, payloadBytes: Infinity }));
  }

  deadLetters(query: InspectQuery = {}): AsyncGenerator<InspectedDeadLetter> {
    return lettersOnPages((after) => this.#letterPage(after, query.payloadBytes ?? 0), query);
  }

  async countDeadLetters(range: InspectRange = {}): Promise<PacketCount> {
    const { after, toId, beforeMs } = boundsOf(range);
    const before = Math.min(Math.ceil(beforeMs), Number.MAX_SAFE_INTEGER);
    const text = "SELECT * FROM sendq.count_letters($1, $2, $3, $4)";
    const [row] = await this.#ask(text, [after, toId, before]);
    return { packets: Number(row?.["packets"]), bytes: Number(row?.["bytes"]) };
  }

  deadLetter(id: number): Promise<InspectedDeadLetter | undefined> {
    return firstOf(this.deadLetters({ fromId: id, toId: id, payloadBytes: Infinity }));
  }

  async check(maxProblems = 1000): Promise<QueueProblem[]> {
    const { name, openForCheck } = this.#parts;
    const database = openForCheck();
    try {
      const text = "SELECT * FROM sendq.check_queue($1) LIMIT $2";
      const { rows } = await database.ask(text, [name, problemsOf(maxProblems)]);
      return rows.map(({ kind, words }) => {
        if (!isKind(kind)) throw new TypeError(`no problem is of the kind ${String(kind)}`);
        return { kind, words: String(words) };
      });
    } catch (error) {
      throw this.#errorOf(error);
    } finally {
      database.close();
    }
  }

  [Symbol.dispose](): void {
    this.#parts.database.close();
  }

  async #packetPage(after: number, { payloadBytes = 0 }: InspectQuery): Promise<PacketPage> {
    const text = "SELECT * FROM sendq.inspect_packets($1, $2, $3, $4, $5, $6)";
    // Of a part nobody can tell whether it is what was stored.
    const args = [after, payloadBytes > 0, payloadBytes === Infinity];
    const rows = await this.#page((limit) => this.#ask(text, [...args, limit, PAGE_BYTES]));
    const nowMs = this.#parts.clock.wallMs();
    const batches = rows.map((row) => batchOf(row, nowMs));
    const faults = rows.map((row, i) => faultOf(row, batches[i]));
    const unsound = faults.findIndex((fault) => fault !== undefined);
    const last = rows.at(-1);
    return {
      batches: unsound < 0 ? batches : batches.slice(0, unsound),
      removedThroughId: Number(last?.["removed_through"] ?? 0),
      sentThroughId: Number(last?.["sent_through"] ?? 0),
      nowMs,
      through: last === undefined ? undefined : Number(last["last_id"]),
      damage: unsound < 0 ? undefined : this.#damaged(
        `the packets that end with id ${rows[unsound]?.["last_id"]} are damaged: ${
          faults[unsound]
        }`,
      ),
    };
  }

  #damaged(words: string): QueueFileError {
    const advice = "Nothing was changed. Fail over to a standby, or restore the database.";
    return new QueueFileError("corrupt", this.path, `Queue ${this.path}: ${words}. ${advice}`);
  }

  async #letterPage(after: number, payloadBytes: number): Promise<LetterPage> {
    const text = "SELECT * FROM sendq.inspect_letters($1, $2, $3, $4, $5)";
    const bytes = Math.min(payloadBytes, Number.MAX_SAFE_INTEGER);
    const rows = await this.#page((limit) => this.#ask(text, [after, bytes, limit, PAGE_BYTES]));
    const unsound = rows.findIndex(({ reason }) => !isDeathReason(reason));
    return {
      items: (unsound < 0 ? rows : rows.slice(0, unsound)).map(inspectedLetterOf),
      damage: unsound < 0
        ? undefined
        : this.#damaged(`dead letter ${rows[unsound]?.["id"]} cannot be understood`),
    };
  }

  /** When one among its rows cannot be read, the first row alone: so those before it still come. */
  async #page(read: (limit: number) => Promise<readonly Row[]>): Promise<readonly Row[]> {
    try {
      return await read(PAGE_ROWS);
    } catch (error) {
      if (!(error instanceof QueueFileError) || error.reason !== "corrupt") throw error;
      return await read(1);
    }
  }

  async #ask(text: string, args: readonly unknown[]): Promise<readonly Row[]> {
    const { database, name, busyTimeoutMs } = this.#parts;
    try {
      return await askAgain(database, text, [name, ...args], {
        timeoutMs: busyTimeoutMs,
        isOver: () => false,
      });
    } catch (error) {
      throw this.#errorOf(error);
    }
  }

  #errorOf(error: unknown): unknown {
    return sqlStateOf(error) === NO_QUEUE
      ? removedQueue(this.path, error)
      : queueErrorOf(error, this.path);
  }
}

/** What is wrong with a row, as far as is asked for; `undefined`: nothing. */
function faultOf(row: Row, batch: InspectedBatch | undefined): string | undefined {
  if (row["is_sound"] === false) return "its bytes do not match their checksum";
  return batch && faultOfEnds(batch.ends, batch.payload?.length);
}

/** @param nowMs The wall clock here, by which it is said when packets expire. */
function batchOf(row: Row, nowMs: number): InspectedBatch {
  const ends = endsOf(row);
  const { payload, expires_at_ms: expires } = row;
  return {
    firstId: Number(row["last_id"]) + 1 - ends.length,
    ends,
    payload: payload instanceof Uint8Array ? new Uint8Array(payload) : undefined,
    enqueuedAtMs: Number(row["enqueued_at_ms"]),
    expiresAtMs: expires == null ? Infinity : nowMs + Number(expires) - Number(row["now_ms"]),
  };
}

function inspectedLetterOf(row: Row): InspectedDeadLetter {
  const { payload } = row;
  return {
    ...letterOf(row),
    bytes: Number(row["bytes"]),
    payload: payload instanceof Uint8Array ? new Uint8Array(payload) : NO_BYTES,
  };
}

function isKind(value: unknown): value is QueueProblem["kind"] {
  return KINDS.has(value);
}
