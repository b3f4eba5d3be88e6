/**
 * A queue on PostgreSQL, for those to whom one machine is not enough: any number of
 * machines enqueue, one sends, another one takes over when it dies.
 *
 * Needs `--allow-net` for the servers; a sender `--allow-ffi` as everywhere.
 *
 * ```ts ignore
 * import { Sender } from "@sendq/sendq";
 * import { postgresQueue } from "@sendq/sendq/postgres";
 *
 * await using queue = await postgresQueue({ url: "postgres://sendq@db1,db2/sendq/outbox" });
 * await queue.enqueue("temperature 21.5\n"); // on two machines' disks from here on
 *
 * // On one machine, or on several: the others stand by.
 * await using sender = await Sender.open(queue, "tcp://legacy:4000");
 * ```
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import { OptionError } from "../base/errors.ts";
import { harmlessLogger } from "../base/logger.ts";
import type { OutboundQueue } from "../queue/queue.ts";
import { resolveQueueOptions } from "../queue/options.ts";
import { queueAt } from "../queue/queue.ts";
import { formatAddress } from "./address.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import { queueErrorOf } from "./errors.ts";
import { healthOf } from "./health.ts";
import {
  checkPostgresOptions,
  MAX_PACKET_BYTES,
  type PostgresQueueOptions,
  settingsOf,
} from "./options.ts";
import { Primary } from "./primary.ts";
import { PostgresPlace } from "./postgres_place.ts";
import { checkVersion } from "./setup.ts";

export { FencedError, OutcomeUnknownError } from "../base/errors.ts";
export { EdgeRefusedError } from "./errors.ts";
export {
  Forwarder,
  type ForwarderCloseOptions,
  type ForwarderOptions,
  type ForwarderState,
  type ForwarderStats,
  type ForwarderStatus,
  type ReadableForwarder,
} from "./forwarder.ts";
export type { Inspector } from "../queue/inspect/inspection.ts";
export { type PostgresInspectOptions, postgresInspector } from "./inspector.ts";
export type { PostgresDurability, PostgresQueueOptions, Weaker } from "./options.ts";
export { setUp, type SetupResult } from "./setup.ts";

/**
 * Opens a queue on PostgreSQL that `sendq postgres setup`, or {@linkcode setUp}, has made.
 *
 * An `enqueue` whose answer was lost is asked again until it is known what became of it, and
 * is never stored twice. Where the queue is closed before that, it rejects with
 * {@linkcode OutcomeUnknownError}.
 *
 * @param options Where it is, and what differs from the defaults.
 * @throws {OptionError} An option is out of range.
 * @throws {QueueFileError} The database cannot be reached, does not know the user, has no such
 *   queue, or promises less than `durability` asks for, and `weaker` is `"refuse"`.
 * @throws {Deno.errors.NotCapable} `--allow-net` is missing.
 */
export async function postgresQueue(options: PostgresQueueOptions): Promise<OutboundQueue> {
  checkPostgresOptions(options);
  const settings = settingsOf(options);
  const { address, durability, weaker, answerTimeoutMs } = settings;
  const { clock = systemClock } = options;
  const logger = harmlessLogger(options.logger);
  const resolved = resolveQueueOptions({ ...onlyShared(options), clock });
  if (resolved.maxPacketBytes > MAX_PACKET_BYTES) {
    throw new OptionError(
      "maxPacketBytes",
      resolved.maxPacketBytes,
      `must be ${MAX_PACKET_BYTES} at most on PostgreSQL`,
    );
  }
  const path = formatAddress(address);
  const connection: DatabaseOptions = {
    address,
    // Connections take real time, whatever the queue goes by.
    clock: systemClock,
    answerTimeoutMs,
    ...{ waitsForStandby: durability === "machine-loss", weaker },
    primary: new Primary(),
  };
  const database = new Database(connection);
  try {
    const text = "SELECT sendq.open_queue($1) AS found";
    const { rows: [opened] } = await database.ask(text, [address.name]);
    const { id, version, checksums } = Object(opened?.["found"]);
    checkVersion(path, version);
    const { rows: [row] } = await database.ask(
      "SELECT sendq.demand($2), sendq.health($1, $2) AS health",
      [address.name, durability],
    );
    const place = new PostgresPlace({
      ...settings,
      queueId: Number(id),
      ...{ path, database, connection, clock, logger },
      lossTimeoutMs: resolved.busyTimeoutMs,
      ...{ holder: options.holder, onStandBy: options.onStandBy },
      health: healthOf(row?.["health"]),
      hasChecksums: checksums === "on",
    });
    return await queueAt(place, resolved);
  } catch (error) {
    database.close();
    throw queueErrorOf(error, path);
  }
}

/** What a queue in a file has as well. */
function onlyShared(options: PostgresQueueOptions) {
  const { maxPackets, maxBytes, maxDeadPackets, maxDeadBytes, maxPacketBytes } = options;
  const { overflow, ttlMs, busyTimeoutMs } = options;
  const bounds = { maxPackets, maxBytes, maxDeadPackets, maxDeadBytes, maxPacketBytes };
  return Object.fromEntries(
    Object.entries({ ...bounds, overflow, ttlMs, busyTimeoutMs })
      .filter(([, value]) => value !== undefined),
  );
}
