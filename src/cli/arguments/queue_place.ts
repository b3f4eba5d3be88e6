/**
 * The queue that `--queue` names: a file, a queue in a spool, or one on PostgreSQL. Of what it is
 * not, nothing is loaded.
 */

import { QUEUE_OPTIONS } from "../../base/option_table.ts";
import type { Logger } from "../../base/ports.ts";
import type { Needs } from "../../permissions/permissions.ts";
import { isQueueUrl, parseQueueUrl } from "../../postgres/address.ts";
import type { QueueOptions } from "../../queue/options.ts";
import { OutboundQueue } from "../../queue/queue.ts";
import { isSpoolAddress, parseSpoolAddress, reportsPathOf } from "../../spool/address.ts";
import { UsageError } from "../terminal/exit_code.ts";
import { withoutPasswords } from "../terminal/figures.ts";

/**
 * For commands that make no dead letters: how many are kept is for the queue's sender to say.
 * Each transaction drops the oldest of those that are beyond the bounds of who makes it.
 */
export const KEEPS_DEAD_LETTERS = {
  maxDeadPackets: Number.MAX_SAFE_INTEGER,
  maxDeadBytes: Number.MAX_SAFE_INTEGER,
} as const satisfies QueueOptions;

/** How commands store that are not told otherwise. */
export const STORES = {
  maxPacketBytes: QUEUE_OPTIONS.maxPacketBytes.default,
  // A pipe waits; a program that calls the library may not want to.
  overflow: "wait",
} as const satisfies QueueOptions;

export function queueNeeds(queue: string): Pick<Needs, "queues" | "databases"> {
  const file = fileOf(queue);
  return file === undefined ? { databases: parseQueueUrl(queue).hosts } : { queues: [file] };
}

/** What has to be granted to send from it. */
export function sendingNeeds(queue: string): Pick<Needs, "queues" | "databases" | "reports"> {
  return { ...queueNeeds(queue), reports: reportsOf(queue) };
}

/** Where its sender says how it stands, beside the lock file. */
export function reportsOf(queue: string): string[] {
  return isSpoolAddress(queue) ? [reportsPathOf(parseSpoolAddress(queue).file)] : [];
}

/** The file that a queue lies in; `undefined`: it lies in a database. */
export function fileOf(queue: string): string | undefined {
  if (isQueueUrl(queue)) return undefined;
  return isSpoolAddress(queue) ? parseSpoolAddress(queue).file : queue;
}

/** A queue's name for people: without a password. */
export function nameOfQueue(queue: string): string {
  return isQueueUrl(queue)
    ? queue.replace(/^([a-z]+:\/\/[^:@/]*):[^@/]*@/i, "$1@")
    : withoutPasswords(queue);
}

/**
 * Opens what `--queue` says.
 *
 * @param options Of the ones that are about a file, a database knows nothing.
 * @param onStandBy Called when a sender of it waits for its turn.
 * @param logger Told of what a sender waits for, and what an acknowledged packet survives.
 */
export async function openQueue(
  queue: string,
  options: QueueOptions,
  logger?: Logger,
  onStandBy?: (words: string) => void,
): Promise<OutboundQueue> {
  if (isSpoolAddress(queue)) {
    const { spoolQueue } = await import("../../spool/spool.ts");
    const { file, name } = parseSpoolAddress(queue);
    return await spoolQueue(file, name, options);
  }
  if (!isQueueUrl(queue)) return await OutboundQueue.open(queue, options);
  const { postgresQueue } = await import("../../postgres/postgres.ts");
  const { durability: _, syncIn: __, driver: ___, ...shared } = options;
  const opened = await postgresQueue({
    ...shared,
    url: queue,
    ...passwordOf(queue),
    ...(logger === undefined ? {} : { logger }),
    ...(onStandBy === undefined ? {} : { onStandBy }),
  });
  logger?.info(`an acknowledged packet survives ${opened.survives}`);
  return opened;
}

/** An environment variable, where this process may look; nothing prompts. */
export function grantedVariable(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}

/** The password, where it does not stand in the URL, which every process can see. */
export function passwordOf(url: string): { readonly password?: string } {
  if (parseQueueUrl(url).password !== undefined) return {};
  const password = grantedVariable("PGPASSWORD");
  return password === undefined ? {} : { password };
}

/**
 * The file that a queue lies in, for what is only done to a file.
 *
 * @param instead What to do with a queue on PostgreSQL, as a sentence without its full stop.
 * @throws {UsageError} It lies in none.
 */
export function requireFile(queue: string, instead: string): string {
  const file = fileOf(queue);
  if (file === undefined) throw new UsageError(`this command is about a file. ${instead}`);
  return file;
}

/**
 * Sees to it that what was stored or removed just now is in the queue that its path
 * leads to, before anybody is told.
 *
 * @throws {QueueFileError} The file was removed or replaced meanwhile.
 */
export function checkInPlace(queue: OutboundQueue): void {
  const error = queue.misplaced();
  if (error !== undefined) throw error;
}
