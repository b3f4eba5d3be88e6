/**
 * `sendq remove` and `sendq requeue`: packets out of a queue for good, and dead
 * letters back into it.
 */

import { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import { QueueFileError } from "../../base/errors.ts";
import { isQueueUrl } from "../../postgres/address.ts";
import type { Inspector, InspectRange } from "../../queue/inspect/inspection.ts";
import { firstOf } from "../../queue/inspect/pages.ts";
import type { IdRange } from "../../queue/options.ts";
import { mergeRanges } from "../../queue/store/types.ts";
import { addQueueOption, QUEUE_THERE } from "../arguments/options.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import {
  checkInPlace,
  KEEPS_DEAD_LETTERS,
  openQueue,
  queueNeeds,
} from "../arguments/queue_place.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { parseDuration, parseDurationOrNever, parseIdRanges } from "../arguments/values.ts";
import {
  CommandError,
  EXIT_CODE_HELP,
  ExitCode,
  explain,
  UsageError,
} from "../terminal/exit_code.ts";
import { formatCount, formatThings } from "../terminal/figures.ts";
import { printLine, printOutcome } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { holdQueue, openWithoutHold, type QueueHold } from "./queue_hold.ts";
import { openForLooking, POSTGRES_PERMISSIONS, requireQueue } from "./queue_view.ts";

const PERMISSIONS = `
Permissions:
  deno run --allow-read=outbox.db,outbox.db.lock \\
    --allow-write=outbox.db,outbox.db.lock \\
    src/cli/main.ts`;

const REMOVE_HELP = `
Asks first, unless --yes is given. What is removed is gone: see sendq export.

Packets can only be removed while no sender runs on the queue, so that none is
pulled from under it; stop it first (systemctl stop, or SIGTERM). Dead letters
can be removed at any time. Of a queue on PostgreSQL stop also the senders that
stand by: the lease of one that has died is waited for.

Examples:
  sendq remove 12 15-20 -q outbox.db
  sendq remove --older-than 7d --dead -q outbox.db --yes
  sendq remove --all -q outbox.db
${PERMISSIONS} remove 12 -q outbox.db
${POSTGRES_PERMISSIONS} Packets, not dead letters,
also need --allow-ffi for the C library.

${EXIT_CODE_HELP}
`;

const REQUEUE_HELP = `
Dead letters go to the end of the queue, under new ids, in their old order. A
sender may run, and is woken at once. One that was sent may reach the server a
second time.

Examples:
  sendq requeue 12 15-20 -q outbox.db
  sendq requeue --all -q outbox.db
${PERMISSIONS} requeue 12 -q outbox.db
${POSTGRES_PERMISSIONS}

${EXIT_CODE_HELP}
`;

/** How many ids one transaction goes through. */
const STEP_IDS = 50_000;

interface ChoiceOptions {
  readonly queue: string;
  readonly all?: boolean;
}

interface RemoveOptions extends ChoiceOptions {
  readonly olderThan?: number;
  readonly dead?: boolean;
  readonly yes?: boolean;
}

interface RequeueOptions extends ChoiceOptions {
  readonly ttl?: number;
}

export function removeCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("remove")
    .summary("remove packets or dead letters for good; asks first")
    .description("Remove packets from a queue, or dead letters, for good.")
    .argument("[ids...]", "ids or ranges of them: 12 15-20", parseIdRanges);
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options, QUEUE_THERE);
  options
    .value("--older-than <time>", "stored (dead letters: died) longer ago", parseDuration)
    .flag("--all", "all of them")
    .flag("--dead", "dead letters: packets that expired, were given up or refused, or are damaged")
    .flag("-y, --yes", "do not ask");
  return command
    .addHelpText("after", REMOVE_HELP)
    .action(async (ids: IdRange[], options: RemoveOptions) =>
      finish(await remove(ids, options, io))
    );
}

export function requeueCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("requeue")
    .summary("put dead letters back to the end of the queue")
    .description("Put dead letters back to the end of the queue.")
    .argument("[ids...]", "ids or ranges of them: 12 15-20", parseIdRanges);
  const options = new OptionAdder(command).group("Dead letters");
  addQueueOption(options, QUEUE_THERE);
  options
    .flag("--all", "all of them")
    .value(
      "--ttl <time>",
      "they become dead letters again when not sent by then (default: never)",
      parseDurationOrNever,
    );
  return command
    .addHelpText("after", REQUEUE_HELP)
    .action(async (ids: IdRange[], options: RequeueOptions) =>
      finish(await requeue(ids, options, io))
    );
}

async function remove(
  ids: readonly IdRange[],
  options: RemoveOptions,
  io: Stdio,
): Promise<ExitCode> {
  const { queue: path, olderThan, dead = false, yes = false } = options;
  checkChoice(ids, [options.all, olderThan !== undefined], "ids, --older-than or --all");
  // The lease of a queue on PostgreSQL goes by the kernel's clock.
  checkPermissions({ ...queueNeeds(path), kernel: isQueueUrl(path) && !dead });
  requireQueue(path);
  // Before anything is counted, so that what was asked about is what is removed.
  await using held = dead ? await openWithoutHold(path) : await holdQueue(path);
  const { ranges, packets, bytes } = await find(path, ids, { olderThan, dead });
  if (packets === 0) {
    await printLine(io, `nothing to remove: no such ${dead ? "dead letter" : "packet"}`);
    return ExitCode.DONE;
  }
  if (!yes && !await isSure(`remove ${wordsOf(packets, bytes, dead)}?`, io)) {
    await printLine(io, "nothing was removed");
    return ExitCode.FAILED;
  }
  let removedPackets = 0, removedBytes = 0;
  using inspector = await openForLooking(path);
  try {
    for await (const range of stepsOf(inspector, ranges, dead)) {
      const removed = await withReserve(
        path,
        held,
        () => dead ? held.queue.removeDeadLetters(range) : held.queue.removePackets(range),
      );
      removedPackets += removed.packets;
      removedBytes += removed.bytes;
    }
  } catch (error) {
    if (removedPackets === 0) throw error;
    throw stoppedHalfway(error, `removed ${wordsOf(removedPackets, removedBytes, dead)}`);
  }
  checkInPlace(held.queue);
  await printOutcome(io, `removed ${wordsOf(removedPackets, removedBytes, dead)}`);
  return ExitCode.DONE;
}

/** The error for who has done a part, in transactions of which each stays: it has that part. */
function stoppedHalfway(error: unknown, done: string): CommandError {
  const words = `${explain(error)} Before it: ${done}. The same command goes on with the rest`;
  return new CommandError(words, { cause: error });
}

/**
 * Removes, on a full disk in the room that the lock file keeps for that. Dead letters need no right
 * to be removed; that room does, and where a sender runs it is the sender's.
 */
async function withReserve<T>(path: string, held: QueueHold, work: () => Promise<T>): Promise<T> {
  let failure: QueueFileError;
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof QueueFileError) || error.reason !== "disk-full") throw error;
    failure = error;
  }
  await using own = held.spare === undefined && !isQueueUrl(path)
    ? await holdQueue(path).catch(() => undefined)
    : undefined;
  const spare = held.spare ?? own?.spare;
  if (spare?.releaseReserve() !== true) throw failure;
  try {
    return await work();
  } finally {
    spare.restoreReserve();
  }
}

async function requeue(
  ids: readonly IdRange[],
  options: RequeueOptions,
  io: Stdio,
): Promise<ExitCode> {
  const { queue: path, ttl } = options;
  checkChoice(ids, [options.all], "ids or --all");
  checkPermissions(queueNeeds(path));
  requireQueue(path);
  const chosen = await find(path, ids, { olderThan: undefined, dead: true });
  await using queue = await openQueue(path, KEEPS_DEAD_LETTERS);
  let packets = 0, bytes = 0, damagedPackets = 0;
  let firstId: number | undefined, lastId = 0;
  using inspector = await openForLooking(path);
  try {
    for await (const range of stepsOf(inspector, chosen.ranges, true)) {
      const moved = await queue.requeue(range, { ttlMs: ttl });
      packets += moved.packets;
      bytes += moved.bytes;
      damagedPackets += moved.damagedPackets;
      if (moved.ids === undefined) continue;
      firstId ??= moved.ids.firstId;
      lastId = moved.ids.lastId;
    }
  } catch (error) {
    // The step that has failed may have moved some, too: what is left is what is still a letter.
    const left = await find(path, chosen.ranges, { olderThan: undefined, dead: true })
      .catch(() => ({ packets: chosen.packets - packets, bytes: chosen.bytes - bytes }));
    const gone = chosen.packets - left.packets;
    if (gone <= 0) throw error;
    // The queue's own words are about that step alone.
    const ofStep = error instanceof QueueFileError && error.cause instanceof QueueFileError;
    const fault = ofStep ? error.cause : error;
    throw stoppedHalfway(fault, `requeued ${wordsOf(gone, chosen.bytes - left.bytes, true)}`);
  }
  checkInPlace(queue);
  const told: string[] = [];
  if (damagedPackets > 0) {
    const words = damagedPackets === 1
      ? "1 dead letter is damaged and stays: its"
      : `${formatCount(damagedPackets)} dead letters are damaged and stay: their`;
    const rest = "bytes are not those that were stored; sendq show ID --dead shows what is there";
    told.push(`${words} ${rest}`);
  }
  if (firstId === undefined) {
    const none = "nothing to requeue: no such dead letter";
    await printLine(io, told[0] ?? none);
    return ExitCode.DONE;
  }
  const now = firstId === lastId ? `now packet ${firstId}` : `now packets ${firstId} to ${lastId}`;
  told.push(`requeued ${wordsOf(packets, bytes, true)}, ${now}`);
  await printOutcome(io, told.join("\n"));
  return ExitCode.DONE;
}

/** @throws {UsageError} None of the ways to say which packets was taken, or several. */
function checkChoice(
  ids: readonly IdRange[],
  others: readonly (boolean | undefined)[],
  ways: string,
): void {
  const chosen = [ids.length > 0, ...others].filter((way) => way === true).length;
  if (chosen === 0) throw new UsageError(`say which: ${ways}`);
  if (chosen > 1) throw new UsageError(`${ways}: one of them, not several`);
}

/** What was chosen as ranges of ids, up to the last one of this moment. */
async function find(
  path: string,
  ids: readonly IdRange[],
  { olderThan, dead }: { readonly olderThan: number | undefined; readonly dead: boolean },
): Promise<{ ranges: IdRange[]; packets: number; bytes: number }> {
  using inspector = await openForLooking(path);
  const { lastId } = await inspector.counts();
  const chosen: IdRange[] = ids.length === 0 ? [{ firstId: 1, lastId }] : mergeRanges(ids);
  const beforeMs = olderThan === undefined ? Infinity : systemClock.wallMs() - olderThan;
  const ranges: IdRange[] = [];
  let packets = 0, bytes = 0;
  for (const { firstId: fromId, lastId } of chosen) {
    const query: InspectRange = { fromId, toId: lastId, beforeMs };
    if (beforeMs === Infinity) {
      const count = dead
        ? await inspector.countDeadLetters(query)
        : await inspector.countPackets(query);
      packets += count.packets;
      bytes += count.bytes;
      if (count.packets > 0) ranges.push({ firstId: fromId, lastId });
      continue;
    }
    for await (const item of dead ? inspector.deadLetters(query) : inspector.packets(query)) {
      packets++;
      bytes += item.bytes;
      const before = ranges.at(-1);
      if (before?.lastId === item.id - 1) {
        ranges[ranges.length - 1] = { firstId: before.firstId, lastId: item.id };
      } else ranges.push({ firstId: item.id, lastId: item.id });
    }
  }
  return { ranges, packets, bytes };
}

/**
 * Ranges that one transaction each can go through without holding others up. Each begins with an
 * id that is there: those that are not may be as many as there are numbers.
 */
async function* stepsOf(
  inspector: Inspector,
  ranges: readonly IdRange[],
  dead: boolean,
): AsyncGenerator<IdRange> {
  for (const { firstId, lastId } of ranges) {
    let fromId = firstId;
    while (fromId <= lastId) {
      const range = { fromId, toId: lastId };
      const first = lastId - fromId < STEP_IDS ? fromId : (await firstOf<{ readonly id: number }>(
        dead ? inspector.deadLetters(range) : inspector.packets(range),
      ))?.id;
      if (first === undefined) break;
      yield { firstId: first, lastId: Math.min(lastId, first + STEP_IDS - 1) };
      fromId = first + STEP_IDS;
    }
  }
}

/** `12 packets (3,400 bytes)`. */
function wordsOf(packets: number, bytes: number, dead: boolean): string {
  return `${formatThings(packets, dead ? "dead letter" : "packet")} (${
    formatThings(bytes, "byte")
  })`;
}

/** @throws {UsageError} There is nobody to ask. */
async function isSure(question: string, io: Stdio): Promise<boolean> {
  if (!io.stdin.isTerminal()) {
    throw new UsageError(`${question.replace("?", "")}: nobody can be asked here, add --yes`);
  }
  await io.stderr.write(new TextEncoder().encode(`${question} [y/N] `));
  const buffer = new Uint8Array(256);
  const length = await io.stdin.read(buffer);
  return /^y(es)?$/i.test(new TextDecoder().decode(buffer.subarray(0, length ?? 0)).trim());
}
