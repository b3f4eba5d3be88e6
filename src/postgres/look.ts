/** Looking at a queue without opening it: its counts, and who sends from it. */

import { systemClock } from "../base/clock.ts";
import type { QueueCounts } from "../queue/inspect/inspection.ts";
import { formatAddress } from "./address.ts";
import { Database } from "./database.ts";
import { type EdgeLook, edgesIn } from "./edges_look.ts";
import { noLease, queueErrorOf } from "./errors.ts";
import { type Health, healthOf } from "./health.ts";
import { type PostgresQueueOptions, settingsOf } from "./options.ts";
import { checkVersion } from "./setup.ts";
import { countsOf, stateFields, stateOf } from "./state_of.ts";
import { survivesWords } from "./survives.ts";

export interface QueueLook extends Health {
  readonly counts: QueueCounts;
  /** When the oldest packet was stored; `undefined`: there is none. */
  readonly oldestEnqueuedAtMs: number | undefined;
  /** What the sender has said of itself with its last beat. */
  readonly notice: string;
  /** What an acknowledged packet survives, in words. */
  readonly survives: string;
  /** Whose packets are forwarded into it. */
  readonly edges: readonly EdgeLook[];
}

export interface Looker {
  /** The queue's address, without the password. */
  readonly path: string;
  /** @throws {QueueFileError} The database cannot be reached, or has no such queue. */
  look(): Promise<QueueLook>;
  close(): void;
}

const LOOK = "SELECT sendq.open_queue($1) AS opened, sendq.state($1) AS state, " +
  "sendq.health($1, $2) AS health, lease.notice " +
  "FROM sendq.lease_look($1) AS lease";

/** Makes it; connects at the first look. */
export function lookerAt(options: Pick<PostgresQueueOptions, "url" | "name" | "password">): Looker {
  const { address, durability, answerTimeoutMs } = settingsOf(options);
  const path = formatAddress(address);
  const database = new Database({
    ...{ address, answerTimeoutMs, clock: systemClock },
    // What is only read waits for nobody, but the setting is shown as a sender has it.
    waitsForStandby: durability === "machine-loss",
  });
  return {
    path,
    async look() {
      try {
        const { rows: [row] } = await database.ask(LOOK, [address.name, durability]);
        if (row === undefined) throw noLease(path);
        checkVersion(path, Number(Object(row["opened"])["version"]));
        const health = healthOf(row["health"]);
        const state = stateOf(stateFields(row["state"]));
        return {
          ...health,
          counts: countsOf(state),
          oldestEnqueuedAtMs: state.oldestEnqueuedAtMs,
          notice: String(row["notice"]),
          survives: survivesWords(durability, health.replication, health.weakness),
          edges: await edgesIn(database, address.name),
        };
      } catch (error) {
        throw queueErrorOf(error, path);
      }
    },
    close: () => database.close(),
  };
}
