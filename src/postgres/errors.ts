/** What a caller is told when the database says no, or nothing. */

import type { SslMode } from "./address.ts";
import { FencedError, messageOf, QueueFileError, type QueueFileReason } from "../base/errors.ts";

/** What the words of a sender that waits for another one begin with. */
export const STANDING_BY = "standing by: ";

/** A connection could not be made, or ended before the answer came. */
export class ConnectionLostError extends Error {
  override readonly name = "ConnectionLostError";
  /** Whether the question may have reached the database. */
  readonly sent: boolean;

  constructor(message: string, sent: boolean, options?: ErrorOptions) {
    super(message, options);
    this.sent = sent;
  }
}

/**
 * The file is not the one that an edge's packets came from so far, so that nobody knows which
 * of its packets the cluster has. Nothing was forwarded or removed.
 *
 * @category Errors
 */
export class EdgeRefusedError extends Error {
  /** The class by name. */
  override readonly name = "EdgeRefusedError";
  /**
   * What has become of the file:
   * - `"restored"`: the cluster has packets of it that it lacks, or has others of: it was
   *   restored from a backup, or a copy of it was forwarded
   * - `"replaced"`: another file was forwarded under this edge's name: that one was removed and
   *   this one made, or two edges have one name
   */
  readonly reason: "restored" | "replaced";
  /** The file's path. */
  readonly path: string;
  /** What people call the edge. */
  readonly edge: string;

  /** Makes it; `message` is the reason in words, and what to do next. */
  constructor(reason: "restored" | "replaced", path: string, edge: string, message: string) {
    super(message);
    this.reason = reason;
    this.path = path;
    this.edge = edge;
  }
}

/** A server speaks no TLS, and the address asks for it. */
export class NoTlsError extends Error {
  override readonly name = "NoTlsError";

  constructor(server: string, sslMode: SslMode, options?: ErrorOptions) {
    super(`the server ${server} speaks no TLS, and sslmode=${sslMode} asks for it`, options);
  }
}

/** What answers is no server itself: it hands questions on over connections that others use too. */
export class PooledError extends Error {
  override readonly name = "PooledError";

  constructor(server: string, options?: ErrorOptions) {
    super(
      `${server} is no PostgreSQL server itself, but a pooler of connections before one: it does ` +
        "not pass on the settings of this connection",
      options,
    );
  }
}

/** What the client library says in codes of its own, and with an address that it was not told. */
const OF_CONNECTIONS: Readonly<Record<string, string>> = {
  CONNECT_TIMEOUT: "it accepts connections, and nobody can log in: it does not answer",
  CONNECTION_CLOSED: "the server has ended it",
  CONNECTION_DESTROYED: "it was given up",
  CONNECTION_ENDED: "it was given up",
};

/** Why a connection could not be made, or has ended, in words. */
export function reasonOf(error: unknown): string {
  const code: unknown = Object(error).code;
  return (typeof code === "string" ? OF_CONNECTIONS[code] : undefined) ?? messageOf(error);
}

/** A setting keeps checksums from being written: what was stored would be taken for damaged. */
export class NoTriggersError extends Error {
  override readonly name = "NoTriggersError";

  constructor(server: string) {
    super(
      `the server ${server} writes no checksums for this user, because session_replication_role ` +
        "is replica: what is stored would be taken for damaged",
    );
  }
}

/** For a server that takes no changes, of which it does not say why. */
export function readOnlyWords(error: unknown): string {
  return `the database takes no changes (${messageOf(error)}): it has become a standby, or ` +
    "default_transaction_read_only is on there or for this user";
}

/**
 * Looks at what a server says of a connection: whose it is, and whether triggers run.
 *
 * @throws {PooledError | NoTriggersError} It is none to use.
 */
export function checkFit(
  { connection, triggers }: Readonly<Record<string, unknown>>,
  id: string,
  server: string,
): void {
  if (connection !== id) throw new PooledError(server);
  if (triggers === "replica") throw new NoTriggersError(server);
}

/** Whether a server is there and is none to use, which another try does not change. */
export function isUnfit(error: unknown): boolean {
  return error instanceof NoTlsError || error instanceof PooledError ||
    error instanceof NoTriggersError;
}

/** SQLSTATE of an error that the server has sent; `undefined`: it is none. */
export function sqlStateOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.name !== "PostgresError") return undefined;
  const code = "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : undefined;
}

/** What the server says besides, or advises; empty: nothing. */
export function saidBesides(error: unknown, field: "detail" | "hint"): string {
  const words: unknown = Object(error)[field];
  return typeof words === "string" ? words : "";
}

const SETUP = "Run sendq postgres setup as a user who may create roles and schemas.";
const NOTHING = "Nothing was stored.";

/** By SQLSTATE: the reason, the words (`undefined`: the server's own), and what to do. */
const MEANINGS: Readonly<
  Record<string, readonly [reason: QueueFileReason, words: string | undefined, advice: string]>
> = {
  SQ001: ["not-a-queue", undefined, "Make it: sendq postgres setup with its name in the URL."],
  SQ002: [
    "io",
    "the database has gone back to an earlier state, so that acknowledged packets are missing",
    "Find out whether it was restored, or failed over without synchronous replication. " +
    "What is stored from now on is stored.",
  ],
  SQ003: [
    "io",
    undefined,
    `${NOTHING} A commit would not survive what it should: change that setting of the ` +
    "database, or ask for less with the option durability.",
  ],
  SQ006: ["corrupt", undefined, "Nothing was removed or changed. Keep a copy of the database."],
  "23514": ["corrupt", undefined, "Nothing was removed or changed. Keep a copy of the database."],
  XX001: ["corrupt", undefined, "Nothing was changed. Fail over to a standby, or restore."],
  XX002: ["corrupt", undefined, "Nothing was changed. Fail over to a standby, or restore."],
  "53100": ["disk-full", "its disk is full", `${NOTHING} Make room; it works again at once.`],
  "42501": [
    "read-only",
    undefined,
    `${NOTHING} To connect it needs CONNECT on the database, to enqueue the role sendq_producer, ` +
    "to send sendq_sender, to look at packets or change them sendq_operator: GRANT " +
    "sendq_producer TO it.",
  ],
  "28P01": ["read-only", undefined, "Check the user and the password."],
  "28000": ["read-only", undefined, "Check the user, and pg_hba.conf of the server."],
  "3D000": ["not-a-queue", undefined, "Create the database, then run sendq postgres setup."],
  "42P06": [
    "not-a-queue",
    "the database has a schema sendq that sendq postgres setup has not made",
    "Nothing was changed. Rename it (ALTER SCHEMA sendq RENAME TO …), drop it where it is of no " +
    "use, or take another database; then run sendq postgres setup again.",
  ],
  "3F000": ["not-a-queue", "the database has no schema sendq", SETUP],
  "42883": ["not-a-queue", "the database has no schema sendq of this version", SETUP],
  "42P01": ["not-a-queue", "the database has no schema sendq of this version", SETUP],
};

/** Statements that were undone by the server for the sake of others: the next may succeed. */
const PASSING = new Set(["40001", "40P01", "55P03", "57014", "53300", "53200", "57P03", "25006"]);

/** For a sender that another one has followed. */
export function takenOver(path: string, options?: ErrorOptions): FencedError {
  return new FencedError(
    `Queue ${path}: another sender has taken it over, because this one could not renew its ` +
      "right to send in time. Nothing is lost. Started again, it waits for its turn.",
    options,
  );
}

/** For a sender whose tenure, or what it has read, the database does not know any more. */
export function goneBack(path: string, options?: ErrorOptions): FencedError {
  return new FencedError(
    `Queue ${path}: the database has gone back to an earlier state, which does not know what it ` +
      "has answered this sender. It has ended its connection, and removes nothing: under the ids " +
      "that it has read there may be other packets now. Started again, it sends what is there. " +
      "Find out whether the database was restored, or failed over without synchronous " +
      "replication; what is missing was acknowledged.",
    options,
  );
}

/**
 * Translates what went wrong in a call that is over: nothing of it is stored.
 *
 * @param path The queue's address, without the password.
 */
export function queueErrorOf(error: unknown, path: string): unknown {
  const make = (reason: QueueFileReason, words: string, advice: string) =>
    new QueueFileError(reason, path, `Queue ${path}: ${words}. ${advice}`, { cause: error });
  if (error instanceof ConnectionLostError) {
    return make("busy", error.message, `${NOTHING} Try again once the database can be reached.`);
  }
  if (error instanceof NoTlsError) {
    const advice = "Switch it on there (ssl = on, with a certificate), or ask for none where " +
      "nobody else can listen: sslmode=disable.";
    return make("io", error.message, `${NOTHING} ${advice}`);
  }
  if (error instanceof PooledError) {
    const advice = "Name the server's own address: through a pooler an answer may be that to " +
      "another program's question.";
    return make("io", error.message, `${NOTHING} ${advice}`);
  }
  if (error instanceof NoTriggersError) {
    const advice =
      "Take that setting back: ALTER ROLE … RESET session_replication_role, or ALTER " +
      "DATABASE, or in the server's configuration.";
    return make("io", error.message, `${NOTHING} ${advice}`);
  }
  const state = sqlStateOf(error);
  if (state === undefined) return error;
  if (state === "SQ004") return takenOver(path, { cause: error });
  if (state === "SQ007") return goneBack(path, { cause: error });
  const hint = saidBesides(error, "hint");
  if (state === "42501" && hint !== "") {
    return make("read-only", messageOf(error), `${NOTHING} To allow it: ${hint}.`);
  }
  const meaning = MEANINGS[state];
  if (meaning !== undefined) {
    const [reason, words, advice] = meaning;
    return make(reason, words ?? messageOf(error), advice);
  }
  const words = `the database reports: ${messageOf(error)} (${state})`;
  return PASSING.has(state)
    ? make("busy", words, `${NOTHING} Try again.`)
    : make("io", words, `${NOTHING} Look into the server's log.`);
}

/** Somebody has emptied the table of leases by hand; who holds none can take none. */
export function noLease(path: string): QueueFileError {
  return new QueueFileError(
    "not-a-queue",
    path,
    `Queue ${path}: its row in the table sendq.lease was removed, and without it nobody can send. ` +
      "Its packets are safe. Run sendq postgres setup with its address, which makes the row anew.",
  );
}

/** There is no such queue, or not any more. */
export const NO_QUEUE = "SQ001";

/** The error of an open queue that somebody has removed from the database. */
export function removedQueue(path: string, cause?: unknown): QueueFileError {
  return new QueueFileError(
    "not-a-queue",
    path,
    `Queue ${path}: it was removed from the database, with all that was in it. Nothing was ` +
      "stored. Make it anew (sendq postgres setup), then start this program again.",
    { cause },
  );
}
