/**
 * Looking at a queue without opening it: its counts, and who sends from it.
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import type { StoreState } from "../queue/store/contract.ts";
import { formatAddress } from "./address.ts";
import { Database } from "./database.ts";
import { queueErrorOf } from "./errors.ts";
import { type PostgresQueueOptions, settingsOf } from "./options.ts";
import { stateOf } from "./state_of.ts";

/** How a queue stands. */
export interface QueueLook {
  /** Its counts. */
  readonly state: StoreState;
  /** Who sends. */
  readonly lease: {
    /** How many tenures there were. */
    readonly epoch: number;
    /** Who has it now; `undefined`: nobody. A holder that has died is one until it is replaced. */
    readonly holder: string | undefined;
    /** What it has said of itself with its last beat. */
    readonly notice: string;
    /** Grows as long as the holder lives. */
    readonly beat: number;
  };
  /** How many standbys have to have a commit: what the setting says; empty: none. */
  readonly synchronousStandbys: string;
}

/** A connection for looking. */
export interface Looker {
  /** The queue's address, without the password. */
  readonly path: string;
  /**
   * Looks once.
   *
   * @throws {QueueFileError} The database cannot be reached, or has no such queue.
   */
  look(): Promise<QueueLook>;
  /** Ends the connection. */
  close(): void;
}

const LOOK = "SELECT sendq.state($1) AS state, lease.*, " +
  "current_setting('synchronous_standby_names') AS standbys FROM sendq.lease_look($1) AS lease";

/** Makes it; connects at the first look. */
export function lookerAt(options: Pick<PostgresQueueOptions, "url" | "name" | "password">): Looker {
  const { address, answerTimeoutMs } = settingsOf(options);
  const path = formatAddress(address);
  const database = new Database({
    ...{ address, answerTimeoutMs, clock: systemClock },
    waitsForStandby: false,
  });
  return {
    path,
    async look() {
      try {
        const { rows: [row = {}] } = await database.ask(LOOK, [address.name]);
        const holder = row["holder"];
        return {
          state: stateOf({ ...Object(row["state"]) }),
          lease: {
            epoch: Number(row["epoch"]),
            beat: Number(row["beat"]),
            holder: typeof holder === "string" ? holder : undefined,
            notice: String(row["notice"]),
          },
          synchronousStandbys: String(row["standbys"]),
        };
      } catch (error) {
        throw queueErrorOf(error, path);
      }
    },
    close: () => database.close(),
  };
}
