/**
 * One connection to the primary, made again when it is lost, and questions over it, one
 * behind the other. The only file that knows the client library.
 */

import { Buffer } from "node:buffer";
import { connect, isIP, type Socket } from "node:net";
import process from "node:process";
import postgres from "postgres";
import { messageOf, seconds } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import { formatHostPort } from "../base/remote.ts";
import { rest } from "../base/waits.ts";
import { type QueueAddress, spellingsOf, type Weaker } from "./address.ts";
import { AnswerTime, wireBytesOf } from "./answer_time.ts";
import {
  checkFit,
  ConnectionLostError,
  isUnfit,
  NoTlsError,
  PooledError,
  readOnlyWords,
  reasonOf,
  sqlStateOf,
} from "./errors.ts";
import { Primary } from "./primary.ts";

/** How long one server may take to accept a connection, and then to log in. */
const CONNECT_TIMEOUT_MS = 2000;
/** Between two rounds through the servers. */
const ROUND_MS = 200;
/** Between two tries of a question whose answer was lost. */
export const AGAIN_MS = 100;
/** "A wait for a standby was given up": what was answered may be on the primary alone. */
const NOT_REPLICATED = "01000";
/**
 * Where in the server other warnings of that code come from: numbers of transactions that run out,
 * at each commit, and what somebody's trigger has to say. Words are in the server's language. What
 * is not known counts as such a wait: it is asked for again, and none is lost.
 */
const OF_OTHERS = /^(GetNew(Transaction|MultiXact)Id|exec_stmt_raise)$/;
const WRONG_PASSWORD = "28P01";
/** The server's answer to whether it speaks TLS: N. */
const NO = 0x4e;
/** A value travels as hexadecimal digits behind \x, and a text has 2^29 - 24 characters at most. */
const LONGEST_BYTES = 2 ** 28 - 13;
/** A commit means too little, and is only warned of. */
const WEAK = "SQ003";

/**
 * That of a primary; `NULL`: it is a standby. And whose connection it is: a pooler, which drops the
 * settings or has others', may give an answer to who has not asked for it. And whether triggers run.
 */
const TIMELINE = "SELECT CASE WHEN NOT pg_is_in_recovery() " +
  "THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline, " +
  "current_setting('sendq.connection', true) AS connection, " +
  "current_setting('session_replication_role') AS triggers";

/** What the library is given: it makes nothing of it that could fail. */
type Argument = string | number | boolean | null;

/**
 * What is a text by then goes as it is. An argument of which the library itself cannot make a text
 * ends the answer that is under way on the connection, whoever waits for that.
 */
const TYPES = {
  bytea: {
    ...{ to: 17, from: [17], serialize: asItIs },
    parse: (text: string) => Buffer.from(text.slice(2), "hex"),
  },
  json: {
    ...{ to: 114, from: [114, 3802], serialize: asItIs },
    parse: (text: string): unknown => JSON.parse(text),
  },
};

function asItIs<T>(value: T): T {
  return value;
}

export type Row = Readonly<Record<string, unknown>>;

export interface DatabaseOptions {
  readonly address: QueueAddress;
  readonly clock: Clock;
  /**
   * After this, a connection that does not answer is given up; a question of many bytes, and one
   * that was given up before, has more time (`AnswerTime`).
   */
  readonly answerTimeoutMs: number;
  /**
   * The most that any question has; as much as `answerTimeoutMs` where an answer that comes later
   * is of no use, and asking again is.
   *
   * @default {3_600_000}
   */
  readonly longestAnswerMs?: number;
  /** Whether each commit has to be on a standby's disk, whatever the server's default. */
  readonly waitsForStandby: boolean;
  /** What becomes of a commit that means too little; left out: it is refused. */
  readonly weaker?: Weaker;
  /** What connections to the same servers know together. @default it knows it alone */
  readonly primary?: Primary;
  /** Asked first on each connection. */
  readonly hello?: { readonly text: string; readonly args: readonly unknown[] };
  readonly onNotify?: () => void;
}

export interface Answer {
  readonly rows: readonly Row[];
  /** Whether a wait for a standby was given up meanwhile: then it is no acknowledgement. */
  readonly unreplicated: boolean;
  /** What a commit is missing, where that is only warned of; `undefined`: nothing. */
  readonly weakness?: string | undefined;
}

type Sql = ReturnType<typeof postgres>;

interface Session {
  readonly sql: Sql;
  /** As the server knows it. */
  readonly id: string;
  /** Which of the servers it is. */
  readonly index: number;
  /** In the order in which they have asked. */
  readonly waiting: Set<Waiting>;
  /** The look at whether the answer is late, and when that is. */
  watch: { readonly dueMs: number; readonly cancel: () => void } | undefined;
  /** When something has come from the server the last time, as far as it was looked at. */
  heardAtMs: number;
  readonly sockets: Set<Socket>;
  readonly warned: Warned;
  /** Whether the server has said so. */
  refusesTls: boolean;
  /** The library would make another connection in place of one that has ended. */
  phase: "opening" | "open" | "ended";
}

interface Waiting {
  readonly askedAtMs: number;
  readonly allowedMs: number;
  readonly reject: (error: Error) => void;
}

/** Counts, because questions are under way side by side: each has its own part of them. */
interface Warned {
  /** How often a wait for a standby was given up. */
  times: number;
  weakTimes: number;
  /** What a commit was missing, the last time. */
  weakness: string | undefined;
}

/** There was no answer in time. */
class NoAnswerError extends Error {}

/** A server takes itself for the primary, and was replaced. */
class OlderPrimaryError extends Error {}

/** A database, through at most one connection. */
export class Database {
  /** Whether the last question has found nobody who answers. */
  isAway = false;
  readonly #options: DatabaseOptions;
  #session: Promise<Session> | undefined;
  /** The connection that is being opened. */
  #trying: Session | undefined;
  readonly #primary: Primary;
  readonly #time: AnswerTime;
  readonly #unsubscribe: () => void;
  /** Whole rounds in which only a primary of an older timeline was found, and since when. */
  #older = { rounds: 0, answers: 0 };
  #isClosed = false;
  /** From then on no answer is waited for longer than that of a small question. */
  #hurryAtMs = Infinity;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#time = new AnswerTime(options.answerTimeoutMs, options.longestAnswerMs);
    this.#primary = options.primary ?? new Primary();
    this.#unsubscribe = this.#primary.subscribe(() => this.#leaveOldPrimary());
  }

  get clock(): Clock {
    return this.#options.clock;
  }

  /**
   * Asks one question, which is a transaction of its own.
   *
   * @throws {ConnectionLostError} There is no connection, or no answer; says whether it was sent.
   * @throws {RangeError} An argument is larger than a text may be; nothing was sent.
   * @throws {Error} The server's own, with its SQLSTATE: nothing of it was done.
   */
  async ask(text: string, args: readonly unknown[]): Promise<Answer> {
    // Before it is anybody's: whatever it fails of is the caller's own, and was not sent.
    const texts = args.map(serialized);
    const { session, opening } = await this.#openSession();
    const { warned } = session;
    const { times, weakTimes } = warned;
    try {
      const rows = await this.#within(session, text, texts);
      this.#primary.answered(session.index);
      this.isAway = false;
      return {
        rows,
        unreplicated: warned.times !== times,
        weakness: warned.weakTimes === weakTimes ? undefined : warned.weakness,
      };
    } catch (error) {
      if (error instanceof NoAnswerError) this.#time.gaveUp(text);
      throw this.#failure(error, opening, session);
    }
  }

  /**
   * Runs several statements, which say themselves what is a transaction. Does not try again.
   *
   * @throws As {@linkcode Database.ask}.
   */
  async run(text: string): Promise<void> {
    const { session, opening } = await this.#openSession();
    try {
      await session.sql.unsafe(text).simple();
    } catch (error) {
      throw this.#failure(error, opening, session);
    }
  }

  /** What a question has failed of. A connection that is of no use any more is ended. */
  #failure(error: unknown, opening: Promise<Session>, session: Session): unknown {
    const state = sqlStateOf(error);
    // A server that is going down, or has become a standby, is none to ask again.
    if (state === undefined || /^(57P|08|25006)/.test(state)) this.#drop(opening, session);
    if (state === "25006") return new ConnectionLostError(readOnlyWords(error), false);
    if (state !== undefined && !/^(57P|08)/.test(state)) return error;
    this.isAway = true;
    const words = `the connection to the database was lost (${reasonOf(error)})`;
    return new ConnectionLostError(words, true, { cause: error });
  }

  /** From so many milliseconds on, no answer is waited for longer than that of a small question. */
  hurryIn(delayMs: number): void {
    this.#hurryAtMs = this.clock.nowMs() + delayMs;
    this.#session?.then((session) => this.#watch(session), () => {});
  }

  /** Ends the connection, whatever is under way on it. */
  close(): void {
    this.#isClosed = true;
    this.#unsubscribe();
    const opening = this.#session;
    this.#session = undefined;
    if (this.#trying !== undefined) end(this.#trying);
    opening?.then((session) => end(session), () => {});
  }

  /** A connection that was lost while nobody asked is made again before the next question. */
  async #openSession(): Promise<{ session: Session; opening: Promise<Session> }> {
    for (;;) {
      const opening = this.#session ??= this.#open();
      try {
        const session = await opening;
        if (session.phase === "open") return { session, opening };
        this.#drop(opening, session);
      } catch (error) {
        if (this.#session === opening) this.#session = undefined;
        throw error;
      }
    }
  }

  /** Another connection has found the primary elsewhere. */
  #leaveOldPrimary(): void {
    const opening = this.#session;
    opening?.then((session) => {
      if (session.index !== this.#primary.first) this.#drop(opening, session);
    }, () => {});
  }

  #drop(opening: Promise<Session>, session: Session): void {
    if (this.#session === opening) this.#session = undefined;
    end(session);
  }

  async #within(session: Session, text: string, args: readonly Argument[]): Promise<Row[]> {
    const { clock } = this.#options;
    const { promise, reject } = Promise.withResolvers<never>();
    const bytes = wireBytesOf(args);
    const askedAtMs = clock.nowMs();
    const waiting = { askedAtMs, allowedMs: this.#time.allowedMs(text, bytes), reject };
    session.waiting.add(waiting);
    this.#watch(session);
    const answered = () => {
      this.#time.answered(text, bytes, clock.nowMs() - begunAtMs(waiting, session));
      session.heardAtMs = clock.nowMs();
    };
    try {
      // Its own answer, rejected when the connection is ended below us, is nobody's then.
      const answer = session.sql.unsafe<Row[]>(text, [...args] as never[], { prepare: true });
      answer.catch(() => {});
      const rows = await Promise.race([answer, promise]);
      answered();
      return [...rows];
    } catch (error) {
      if (sqlStateOf(error) !== undefined) answered();
      throw error;
    } finally {
      session.waiting.delete(waiting);
      this.#watch(session);
    }
  }

  /** One timer a connection: one for each question took a tenth of a round trip. */
  #watch(session: Session): void {
    const { clock } = this.#options;
    const { shortestMs } = this.#time;
    const [oldest] = session.waiting;
    if (oldest === undefined || session.phase === "ended") return;
    const begunMs = begunAtMs(oldest, session);
    const allowedMs = Math.min(oldest.allowedMs, Math.max(shortestMs, this.#hurryAtMs - begunMs));
    const dueMs = begunMs + allowedMs;
    // One that is early looks again. One that is late was for a question that had more time.
    if (session.watch !== undefined && session.watch.dueMs <= dueMs) return;
    session.watch?.cancel();
    const before = receivedBytes(session);
    const cancel = clock.setTimer(Math.max(0, dueMs - clock.nowMs()), () => {
      session.watch = undefined;
      if (session.waiting.has(oldest)) {
        // Of a long answer, a part has come.
        if (receivedBytes(session) > before) session.heardAtMs = clock.nowMs();
        else {
          session.waiting.delete(oldest);
          oldest.reject(new NoAnswerError(`no answer within ${seconds(allowedMs)}`));
        }
      }
      this.#watch(session);
    });
    session.watch = { dueMs, cancel };
  }

  async #open(): Promise<Session> {
    const { address, clock } = this.#options;
    const { hosts } = address;
    const reasons: string[] = [];
    let cause: unknown;
    const { first, answers } = this.#primary;
    // Another connection has reached the newer one meanwhile.
    if (this.#older.answers !== answers) this.#older = { rounds: 0, answers };
    let metOlder = false;
    const all = [...hosts.entries()];
    for (const [index, host] of [...all.slice(first), ...all.slice(0, first)]) {
      try {
        return await this.#logIn(host, index);
      } catch (error) {
        if (this.#isClosed) throw new ConnectionLostError("the connection is closed", false);
        const state = sqlStateOf(error);
        // What the server refuses by itself is no lost connection.
        if (isUnfit(error)) throw error;
        if (state !== undefined && !/^(57P|08|53)/.test(state)) throw error;
        metOlder ||= error instanceof OlderPrimaryError;
        reasons.push(`${formatHostPort(host.hostname, host.port)}: ${reasonOf(error)}`);
        cause = error;
      }
    }
    if (metOlder) this.#older.rounds++;
    this.isAway = true;
    await rest(clock, ROUND_MS);
    throw new ConnectionLostError(
      `no primary can be reached (${reasons.join("; ")})`,
      false,
      { cause },
    );
  }

  /** A server says that a password is wrong, and not how it has written it down. */
  async #logIn(host: QueueAddress["hosts"][number], index: number): Promise<Session> {
    const [likeliest, asTyped] = spellingsOf(this.#options.address.password ?? "");
    try {
      return await this.#openAt(host, index, likeliest);
    } catch (error) {
      if (asTyped === undefined || sqlStateOf(error) !== WRONG_PASSWORD) throw error;
      return await this.#openAt(host, index, asTyped);
    }
  }

  /** The server itself is asked: the library takes the first one for the only one. */
  async #openAt(
    host: QueueAddress["hosts"][number],
    index: number,
    password: string,
  ): Promise<Session> {
    const { hello } = this.#options;
    if (this.#isClosed) throw new Error("the connection is closed");
    const session = this.#trying = this.#connect(host, index, password);
    try {
      const [row] = await this.#within(session, TIMELINE, []);
      checkFit(row ?? {}, session.id, formatHostPort(host.hostname, host.port));
      const timeline = row?.["timeline"];
      if (typeof timeline !== "string") throw new Error("it is a standby");
      if (hello !== undefined) await this.#within(session, hello.text, hello.args.map(serialized));
      if (this.#isClosed) throw new Error("the connection is closed");
      const newest = this.#primary.timeline;
      if (!this.#primary.found(index, timeline, this.#older.rounds)) {
        throw new OlderPrimaryError(`it has the timeline ${timeline}, and ${newest} is newer`);
      }
      session.phase = "open";
      return session;
    } catch (error) {
      end(session);
      if (session.refusesTls) {
        const { sslMode } = this.#options.address;
        throw new NoTlsError(formatHostPort(host.hostname, host.port), sslMode, { cause: error });
      }
      // PgBouncer refuses what it cannot keep apart. A server takes what it knows.
      if (messageOf(error).startsWith("unsupported startup parameter")) {
        throw new PooledError(formatHostPort(host.hostname, host.port), { cause: error });
      }
      throw error;
    } finally {
      this.#trying = undefined;
    }
  }

  #connect(host: QueueAddress["hosts"][number], index: number, password: string): Session {
    const { address, clock, waitsForStandby, weaker, onNotify } = this.#options;
    const sockets = new Set<Socket>();
    const id = crypto.randomUUID();
    const isSecret = address.sslMode !== "disable";
    const socket = async (): Promise<Socket> => {
      // One that is made behind our back would not have said hello, nor been looked at.
      if (session.phase !== "opening") throw new Error("the connection was lost");
      const socket = await dial(host, clock, sockets);
      // The answer to whether it speaks TLS; the library goes on whatever it is.
      if (isSecret) socket.once("data", ([first]) => session.refusesTls = first === NO);
      return socket;
    };
    const warned: Warned = { times: 0, weakTimes: 0, weakness: undefined };
    // Every setting is given: see `withoutEnvironment`. Some are missing in its types.
    const options: Record<string, unknown> = {
      ...{ host: [host.hostname], port: [host.port], socket, max: 1, fetch_types: false },
      database: address.database,
      ...{ user: address.user, password },
      ssl: isSecret && {
        rejectUnauthorized: address.sslMode === "verify-full",
        host: host.hostname,
        // Addresses have no place in SNI (RFC 6066, 3), and are what is checked then.
        servername: isIP(host.hostname) === 0 ? host.hostname : "",
      },
      connect_timeout: CONNECT_TIMEOUT_MS / 1000,
      target_session_attrs: null,
      ...{ idle_timeout: 0, max_lifetime: null, keep_alive: 10, prepare: true, debug: false },
      ...{ max_pipeline: 100, publications: "", sslnegotiation: null, types: TYPES },
      backoff: () => ROUND_MS / 1000,
      onnotice: (notice: postgres.Notice) => {
        const { code, routine } = notice;
        if (code === NOT_REPLICATED && !OF_OTHERS.test(String(routine))) warned.times++;
        if (code === WEAK) {
          warned.weakTimes++;
          warned.weakness = String(notice["message"]);
        }
      },
      ...(onNotify === undefined ? {} : { onnotify: onNotify }),
      onclose: () => session.phase = "ended",
      connection: {
        application_name: "sendq",
        "sendq.connection": id,
        // A server process that waits for us notices that we have gone.
        client_connection_check_interval: "1000",
        // Settings of a role or a database must not hide what a commit has to say, nor end a
        // wait for a standby, nor write bytes as TYPES does not read them, nor refuse who has
        // waited for another one's commit.
        client_min_messages: "warning",
        ...{ lock_timeout: "0", statement_timeout: "0", bytea_output: "hex" },
        default_transaction_isolation: "read committed",
        ...(waitsForStandby ? { synchronous_commit: "on" } : {}),
        ...(weaker === "warn" ? { "sendq.weaker": "warn" } : {}),
      },
    };
    const sql = withoutEnvironment(() => postgres(options as postgres.Options<never>));
    const session: Session = {
      ...{ sockets, warned, sql, id, index, waiting: new Set(), watch: undefined },
      ...{ heardAtMs: -Infinity, refusesTls: false },
      phase: "opening",
    };
    return session;
  }
}

function serialized(value: unknown): Argument {
  switch (typeof value) {
    case "string":
    case "number":
    case "boolean":
      return value;
  }
  if (value === null) return null;
  if (value === undefined) throw new TypeError("an argument is missing");
  if (!(value instanceof Uint8Array)) return JSON.stringify(value);
  const { buffer, byteOffset, byteLength } = value;
  if (byteLength > LONGEST_BYTES) {
    throw new RangeError(`${byteLength} bytes are more than one value may have (${LONGEST_BYTES})`);
  }
  return `\\x${Buffer.from(buffer, byteOffset, byteLength).toString("hex")}`;
}

/**
 * Asks what may be asked twice: where the answer is lost, or is on the primary alone, again.
 *
 * @throws As {@linkcode Database.ask}.
 */
export async function askAgain(
  database: Database,
  text: string,
  args: readonly unknown[],
  { timeoutMs, isOver }: { readonly timeoutMs: number; readonly isOver: () => boolean },
): Promise<readonly Row[]> {
  const { clock } = database;
  const untilMs = clock.nowMs() + timeoutMs;
  for (;;) {
    try {
      const { rows, unreplicated } = await database.ask(text, args);
      if (!unreplicated) return rows;
      throw new ConnectionLostError("a wait for a standby was given up", true);
    } catch (error) {
      if (!(error instanceof ConnectionLostError) || isOver() || clock.nowMs() >= untilMs) {
        throw error;
      }
    }
    await rest(clock, AGAIN_MS);
  }
}

/**
 * The library takes what it is not told from the environment, where a variable could change
 * what a commit means, and which needs a permission even to look. It reads it in this call.
 */
function withoutEnvironment<T>(work: () => T): T {
  const { env } = process;
  process.env = {};
  try {
    return work();
  } finally {
    process.env = env;
  }
}

function dial(
  { hostname, port }: QueueAddress["hosts"][number],
  clock: Clock,
  sockets: Set<Socket>,
): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const socket = connect({ host: hostname, port });
  sockets.add(socket);
  const cancel = clock.setTimer(CONNECT_TIMEOUT_MS, () => {
    socket.destroy(new Error(`${hostname} does not answer`));
  });
  socket.once("connect", () => {
    cancel();
    socket.removeAllListeners();
    // A ring and the next commit are small, and neither waits for the other's answer.
    socket.setNoDelay(true);
    resolve(socket);
  });
  socket.once("error", (error) => {
    cancel();
    reject(error);
  });
  // Ended below us.
  socket.once("close", () => {
    cancel();
    reject(new Error("the connection was given up"));
  });
  return promise;
}

/** Since when the server works for this question alone: it answers one behind the other. */
function begunAtMs({ askedAtMs }: Waiting, { heardAtMs }: Session): number {
  return Math.max(askedAtMs, heardAtMs);
}

function receivedBytes({ sockets }: Session): number {
  return [...sockets].reduce((sum, { bytesRead }) => sum + bytesRead, 0);
}

/** Ends a connection, also one whose other side is silent. */
function end(session: Session): void {
  const { sql, sockets, waiting } = session;
  session.phase = "ended";
  session.watch?.cancel();
  for (const { reject } of waiting) reject(new Error("the connection was given up"));
  sql.end({ timeout: 0 }).catch(() => {});
  for (const socket of sockets) socket.destroy();
  sockets.clear();
}
