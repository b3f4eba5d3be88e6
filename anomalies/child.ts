/**
 * One short life of a sender, to be traced: opens a queue, stores a few packets,
 * delivers them, ends. Each step is a line of JSON on standard output, by one
 * write(2), which is none of the calls that fail.
 *
 * ```sh
 * deno run anomalies/child.ts '{"queue":"q.db","remote":"tcp://127.0.0.1:4000",…}'
 * ```
 *
 * @module
 */

import { type CommitOutcome, QueueFileError } from "../src/base/errors.ts";
import type { SyncIn } from "../src/queue/options.ts";
import { Neighbour, openQueueAt, type Place } from "../lab/opened_queue.ts";
import { Sender } from "../src/sender/sender.ts";
import { HOLD_MS, packetOf } from "./packets.ts";

/** What the child is to do, as its only argument. */
export interface Task {
  readonly queue: string;
  readonly remote: string;
  readonly packets: number;
  readonly syncIn: SyncIn;
  readonly place: Place;
  /** For the proof that the checks can fail: says "stored" before it stores. */
  readonly liar?: true;
}

/** What the child says. */
export type Told =
  | { readonly stored: number }
  | { readonly refused: number; readonly outcome: CommitOutcome; readonly error: ToldError }
  | { readonly failed: ToldError }
  | { readonly kept: number };

/** An error in words. */
export interface ToldError {
  readonly name: string;
  readonly message: string;
}

/** How long the end may take: enough for every retry of the sender. */
const DELIVER_TIMEOUT_MS = 5000;
/** Nobody else uses the file: only a lock that the kernel refuses is waited for. */
const BUSY_TIMEOUT_MS = 1000;
const EXIT = { failed: 1, kept: 75 } as const;

async function live(
  { queue: path, remote, packets, syncIn, place, liar }: Task,
): Promise<number> {
  const queueOptions = { syncIn, busyTimeoutMs: BUSY_TIMEOUT_MS };
  await using neighbour = await Neighbour.open(path, place, queueOptions);
  const sender = await Sender.open({
    ...(place === "file"
      ? { queue: path, queueOptions }
      : { queue: await openQueueAt(path, place, queueOptions), closesQueue: true }),
    ...{ remote, holdMs: HOLD_MS, backoffCapMs: 100 },
    // Why packets are kept at the end is said here and nowhere else.
    logger: { debug: () => {}, info: () => {}, warn: complain, error: complain },
  });
  // What ends the sender is thrown by close(), too.
  sender.closed.catch(() => {});
  let refused = false;
  for (let number = 0; number < packets; number++) {
    try {
      if (liar) tell({ stored: number });
      neighbour.store();
      await sender.enqueue(packetOf(number));
      if (!liar) tell({ stored: number });
    } catch (error) {
      refused = true;
      const outcome = error instanceof QueueFileError ? error.outcome : "nothing-stored";
      tell({ refused: number, outcome, error: wordsOf(error) });
    }
  }
  await sender.close({ deliverTimeoutMs: DELIVER_TIMEOUT_MS });
  const kept = sender.stats().queue.packets;
  tell({ kept });
  return refused ? EXIT.failed : kept > 0 ? EXIT.kept : 0;
}

function tell(told: Told): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(told)}\n`));
}

function complain(words: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`${words}\n`));
}

function wordsOf(error: unknown): ToldError {
  const { name, message } = error instanceof Error
    ? error
    : { name: typeof error, message: String(error) };
  return { name, message };
}

if (import.meta.main) {
  try {
    Deno.exitCode = await live(JSON.parse(Deno.args[0] ?? ""));
  } catch (error) {
    tell({ failed: wordsOf(error) });
    Deno.exitCode = EXIT.failed;
  }
}
