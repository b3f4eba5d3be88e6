/** What a forwarder asks the database; `sql/edges.ts` has the functions. */

import { messageOf } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import type { Answer, Database, Row } from "./database.ts";
import type { EdgeBatch } from "./edge_batch.ts";
import { ConnectionLostError, queueErrorOf, sqlStateOf } from "./errors.ts";
import { fieldsOf } from "./numbered_calls.ts";
import type { PostgresDurability } from "./options.ts";
import { checkVersion } from "./setup.ts";
import { arrayOf, numberOf } from "./state_of.ts";

/** What an edge says of itself, for those who look at the cluster. */
export interface EdgeNotice {
  /** Packets in its file. */
  readonly queuedPackets: number;
  /** Their bytes. */
  readonly queuedBytes: number;
  /** For how long the oldest one has waited there; 0: there is none. */
  readonly oldestAgeMs: number;
  /** Dead letters in its file. */
  readonly deadPackets: number;
}

/** What the cluster has of a file; `sql/edges.ts` says what it means. */
export interface EdgeKnown {
  /** 0: nothing. */
  readonly through: number;
  readonly markMs: number;
  readonly markCrc: number;
}

/** A forwarder has begun. */
export interface EdgeSession extends EdgeKnown {
  /** What it asks has this number. */
  readonly epoch: number;
}

/** Another file has the edge's name. */
export interface Namesake {
  /** That file. */
  readonly namesake: string;
  /** The highest id of that file which the cluster has. */
  readonly through: number;
  readonly seenAgoMs: number;
}

/** There is no room for all of it; what there is may be less than 0. */
export interface Room {
  readonly roomPackets: number;
  readonly roomBytes: number;
}

/** The database did not do it, or has not answered: begin anew, which tells. */
export class ClusterError extends Error {
  override readonly name = "ClusterError";
}

export interface EdgeCallsOptions {
  readonly database: Database;
  /** The queue's name there. */
  readonly name: string;
  /** Its address, without the password. */
  readonly path: string;
  readonly durability: PostgresDurability;
  /** What people call the edge. */
  readonly edge: string;
  /** The most that the cluster's queue may hold. */
  readonly maxPackets: number;
  readonly maxBytes: number;
  /** By which it is known how long packets are worth sending. */
  readonly clock: Clock;
}

const OPEN = "SELECT sendq.edge_open($1, $2, $3, $4, $5, $6) AS answer";
const FORWARD = "SELECT sendq.edge_forward($1, $2, $3, $4, $5, $6, $7, $8) AS answer";
const BEAT = "SELECT sendq.edge_beat($1, $2, $3, $4) AS lives, " +
  "(SELECT through FROM sendq.edges($1) WHERE id = $2) AS through";

export class EdgeCalls {
  readonly #options: EdgeCallsOptions;

  constructor(options: EdgeCallsOptions) {
    this.#options = options;
  }

  /**
   * Begins, where the cluster has of the file what it had at the last look: what was asked before
   * and is on its way does nothing any more. Else it only looks, and nothing is changed.
   *
   * @param id The file.
   * @param takesName Whether the edge's name is this file's from now on, whoever has it.
   * @param looked What the cluster had of the file; `undefined`: nobody has looked.
   * @throws {ClusterError}
   */
  async open(
    id: string,
    takesName: boolean,
    looked: EdgeKnown | undefined,
  ): Promise<EdgeSession | EdgeKnown | Namesake> {
    const { name, edge, durability } = this.#options;
    const args = [name, id, edge, takesName, looked?.through ?? null, durability];
    const fields = await this.#ask(OPEN, args);
    const { namesake } = fields;
    const through = numberOf(fields["through"]);
    if (typeof namesake === "string") {
      return { namesake, through, seenAgoMs: numberOf(fields["seenAgoMs"]) };
    }
    this.#checkVersion(numberOf(fields["version"]));
    const known = {
      through,
      markMs: numberOf(fields["markMs"]),
      markCrc: numberOf(fields["markCrc"]),
    };
    return fields["isOpen"] === true ? { ...known, epoch: numberOf(fields["epoch"]) } : known;
  }

  /**
   * Stores packets, all or none, behind those that the session has.
   *
   * @param id The file.
   * @param markMs When the file has stored the last of them.
   * @returns `undefined`: they are stored.
   * @throws {ClusterError} It is not known, or they are not.
   */
  async forward(
    id: string,
    { epoch, through }: EdgeSession,
    { lastId, lastCrc, payload, runs }: EdgeBatch,
    markMs: number,
    notice: EdgeNotice,
  ): Promise<Room | undefined> {
    const { name, durability, maxPackets, maxBytes, clock } = this.#options;
    const wallMs = clock.wallMs();
    const terms = {
      ...{ durability, epoch, after: through, through: lastId, markMs, markCrc: lastCrc },
      ...{ maxPackets, maxBytes, notice },
    };
    const fields = await this.#ask(FORWARD, [
      ...[name, id, terms],
      arrayOf(runs.map(({ ends }) => ends.length)),
      arrayOf(runs.map(({ bytes }) => bytes.length)),
      // What is left of it, for this machine's clock says nothing to another one.
      arrayOf(
        runs.map(({ expiresAtMs }) =>
          expiresAtMs === Infinity ? 0 : Math.max(1, Math.ceil(expiresAtMs - wallMs))
        ),
      ),
      `{${runs.map(({ ends }) => ends.join(",")).join(",")}}`,
      payload,
    ]);
    if (fields["through"] === lastId) return undefined;
    return {
      roomPackets: Number(fields["roomPackets"]),
      roomBytes: Number(fields["roomBytes"]),
    };
  }

  /**
   * Says that the forwarder lives.
   *
   * @throws {ClusterError} Also when another one has begun with this edge, and when the database
   *   has gone back: to a moment in this session, whose epoch it knows then.
   */
  async beat(id: string, { epoch, through }: EdgeSession, notice: EdgeNotice): Promise<void> {
    const { rows: [row] } = await this.#once(BEAT, [this.#options.name, id, epoch, notice]);
    const known = Number(row?.["through"] ?? 0);
    if (row?.["lives"] !== true || known < through) throw new ClusterError(OVERTAKEN);
  }

  /** Wakes the queue's sender; where that fails, it looks by itself a second later. */
  async ring(): Promise<void> {
    const { database, name } = this.#options;
    await database.ask("SELECT sendq.ring($1)", [name]).catch(() => {});
  }

  close(): void {
    this.#options.database.close();
  }

  #checkVersion(version: number): void {
    try {
      checkVersion(this.#options.path, version);
    } catch (error) {
      throw new ClusterError(messageOf(error), { cause: error });
    }
  }

  async #ask(text: string, args: readonly unknown[]): Promise<Row> {
    const fields = fieldsOf(await this.#once(text, args));
    if (fields !== undefined) return fields;
    throw new ClusterError("a wait for a standby was given up, so that nobody knows");
  }

  async #once(text: string, args: readonly unknown[]): Promise<Answer> {
    const { database, path } = this.#options;
    try {
      return await database.ask(text, args);
    } catch (error) {
      throw new ClusterError(wordsOf(error, path), { cause: error });
    }
  }
}

const OVERTAKEN = "another forwarder has begun with this edge: a copy of its file, perhaps; " +
  "or the database has gone back to an earlier state";

function wordsOf(error: unknown, path: string): string {
  if (error instanceof ConnectionLostError) return error.message;
  if (sqlStateOf(error) === "SQ008") return OVERTAKEN;
  return messageOf(queueErrorOf(error, path));
}
