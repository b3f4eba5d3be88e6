/**
 * Runs one case: a server that is killed after a third of the packets and ended
 * after two thirds, and what of them it has written down in the end.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { QueueInspector } from "../src/queue/inspect/inspector.ts";
import type { Load, Place, Result, ServerCase } from "./case.ts";
import { compare, type Comparison } from "./compare.ts";
import { versionOf } from "./packages.ts";
import { inFolder } from "./running.ts";
import { SenderProcess } from "./sender_process.ts";
import { lineOf } from "./servers.ts";
import { freePort, ServerProcess, untilListening } from "./server_process.ts";

/** Generous: it only ends a run that has failed. */
const DELIVER_WITHIN_MS = 240_000;
/** A server may read what its kernel has acknowledged a little later. */
const SETTLE_WITHIN_MS = 10_000;
const CONNECTED_WITHIN_MS = 60_000;
/** How long the output is waited for before the next damage comes anyway. */
const PROGRESS_WITHIN_MS = 3_000;
/** Of a server that is known to lose some: a login that is missing after a restart loses more. */
const MOST_LOST_BY_SERVER = 0.1;
/** Packets of a burst that come behind each end of the server. */
const KEPT_BACK = 20;
const POLL_MS = 100;

/** Runs it in a directory of its own under the scratch directory. */
export function runServer(server: ServerCase, load: Load, scratch: string): Promise<Result> {
  return inFolder(
    scratch,
    (work) => run(server, load, { port: freePort(), work, output: `${work}/output`, scratch }),
  );
}

async function run(server: ServerCase, load: Load, place: Place): Promise<Result> {
  const beganMs = performance.now();
  const { packets: sent } = load;
  await using process = new ServerProcess((place) => server.start(place), place);
  if (!server.connects) await process.start();
  const holds = !("answered" in server.sending) && !server.unixSocket;
  const flags = load.hold === undefined || !holds ? [] : ["--hold", load.hold];
  await using sender = new SenderProcess(server, place, flags);
  if (server.connects) {
    await untilListening(place.port);
    await process.start();
  }
  const look = async () =>
    compare(await outputOf(server, place), sent, lineOf(server), server.refuses?.packet);
  await damage(server, load, process, sender, look);
  await sender.endInput();
  const code = await sender.ended(DELIVER_WITHIN_MS);
  const compared = await settled(look);
  await process.end("SIGTERM");
  return {
    ...{ case: server.name, load: load.name, sent },
    version: await versionOf(server, place.scratch),
    ...judge(server, sender, sent, code, compared, await deadLettersOf(sender.queue, server)),
    seconds: (performance.now() - beganMs) / 1000,
  };
}

/**
 * Gives it the packets, and ends the server twice on the way. Packets are left for each
 * of its lives, so that the sender has to come back each time.
 */
async function damage(
  server: ServerCase,
  { packets, perSecond }: Load,
  process: ServerProcess,
  sender: SenderProcess,
  look: () => Promise<Comparison>,
): Promise<void> {
  const atOnce = perSecond === undefined;
  const [first, second] = atOnce
    ? [packets - 2 * KEPT_BACK, packets - KEPT_BACK] as const
    : [Math.floor(packets / 3), Math.floor(packets * 2 / 3)] as const;
  let number = 0;
  const writeUpTo = async (end: number) => {
    const beganMs = performance.now();
    for (let i = 0; number < end; i++) {
      if (!atOnce) await delay(Math.max(0, beganMs + i * 1000 / perSecond - performance.now()));
      await sender.write(server.packet(number++));
    }
  };
  const progress = async (connections: number, count: number) => {
    const deadlineMs = performance.now() + CONNECTED_WITHIN_MS;
    while (sender.connections < connections && performance.now() < deadlineMs) {
      await delay(POLL_MS);
    }
    // A server that writes late is ended all the same.
    const seenByMs = performance.now() + PROGRESS_WITHIN_MS;
    while (performance.now() < seenByMs && packets - (await look()).lost.length < count) {
      await delay(POLL_MS);
    }
  };
  await writeUpTo(1);
  await progress(1, 1);
  await writeUpTo(first);
  await progress(1, Math.floor(packets / 3));
  // While it is down, what comes goes to the disk.
  await process.restart("SIGKILL", () => writeUpTo(second));
  await progress(2, Math.floor(packets * 2 / 3));
  await process.restart("SIGTERM", () => writeUpTo(packets));
}

/** Once everything is there, or nothing more comes. */
async function settled(look: () => Promise<Comparison>): Promise<Comparison> {
  let compared = await look();
  let deadlineMs = performance.now() + SETTLE_WITHIN_MS;
  while (compared.lost.length > 0 && performance.now() < deadlineMs) {
    await delay(POLL_MS);
    const next = await look();
    if (next.lost.length < compared.lost.length) deadlineMs = performance.now() + SETTLE_WITHIN_MS;
    compared = next;
  }
  return compared;
}

function judge(
  server: ServerCase,
  sender: SenderProcess,
  sent: number,
  code: number,
  compared: Comparison,
  deadLetters: DeadLetters,
): Omit<Result, "case" | "load" | "version" | "sent" | "seconds"> {
  const { lost, duplicated, outOfOrder, strange } = compared;
  const { orderUnknown, duplicatesUnknown, losesBecause } = server;
  const bound = sender.events.reduce((sum, { toSendAgain }) => sum + toSendAgain, 0);
  const { connections } = sender;
  const failures: string[] = [];
  const notes = [orderUnknown, duplicatesUnknown].filter((note) => note !== undefined);
  const check = (holds: boolean, words: string) => {
    if (!holds) failures.push(words);
  };
  const wanted = server.refuses === undefined ? 0 : 1;
  check(code === wanted, `send ended with ${code}: ${sender.events.at(-1)?.message}`);
  check(connections >= 3, `${connections} connections for three lives of the server`);
  check(strange.length === 0, `${strange.length} strange lines: ${strange[0]}`);
  const refused = Array.from({ length: sent }, (_, number) => number)
    .filter((number) => server.refuses?.packet(number)).length;
  check(
    deadLetters.packets === refused && deadLetters.strange.length === 0,
    `${deadLetters.packets} dead letters in the place of ${refused}: ${deadLetters.strange[0]}`,
  );
  const mostLost = losesBecause === undefined ? 0 : sent * MOST_LOST_BY_SERVER;
  check(lost.length <= mostLost, `lost ${lost.length}: ${lost.slice(0, 5).join(", ")} …`);
  if (losesBecause !== undefined && lost.length > 0) notes.push(losesBecause);
  if (duplicatesUnknown === undefined) {
    // What a server tells twice in the place of another is both.
    const most = bound + (losesBecause === undefined ? 0 : lost.length);
    check(duplicated <= most, `${duplicated} duplicates, ${bound} were in flight or held`);
    // What a server has lost once comes, sent again, behind what it had not.
    const ordered = orderUnknown === undefined && losesBecause === undefined;
    if (ordered) check(outOfOrder === 0, `${outOfOrder} times out of order`);
  }
  const countable = duplicatesUnknown === undefined;
  return {
    lost: lost.length,
    duplicated: countable ? duplicated : undefined,
    duplicatesBound: bound,
    outOfOrder: countable ? outOfOrder : undefined,
    ...{ deadLetters: deadLetters.packets, connections, notes, failures },
  };
}

/** What the server has refused; `strange`: the words of those that it has not, or not so. */
interface DeadLetters {
  readonly packets: number;
  readonly strange: readonly string[];
}

async function deadLettersOf(queue: string, { refuses }: ServerCase): Promise<DeadLetters> {
  using inspector = await QueueInspector.open(queue);
  const letters = await Array.fromAsync(inspector.deadLetters());
  const strange = letters
    .filter(({ reason, words }) => reason !== "refused" || !refuses?.words.test(words ?? ""))
    .map(({ reason, words }) => `${reason}: ${words}`);
  return { packets: letters.length, strange };
}

async function outputOf(server: ServerCase, place: Place): Promise<string> {
  if (server.read) return await server.read(place);
  try {
    return await Deno.readTextFile(place.output);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return ""; // Nothing has come yet.
    throw error;
  }
}
