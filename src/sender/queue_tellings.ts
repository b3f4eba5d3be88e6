/**
 * What befalls a queue beside its delivery, in words.
 *
 * @module
 */

import { messageOf } from "../base/errors.ts";
import type { Clock, Logger } from "../base/ports.ts";
import type { StoreFailure } from "../base/queue_stats.ts";
import { type OutboundQueue, sendingSideOf } from "../queue/queue.ts";
import { spanWords } from "./outage.ts";
import { wordsForDead, wordsForDropped } from "./words_for_dead.ts";

/** Whoever enqueues is told at once: a line beside that is said when it lasts. */
const LASTING_MS = 10_000;

/** Told in one sentence, and how serious it is. */
export type Tell = (level: keyof Logger, words: string) => void;

/** Who hears of it. */
export interface QueueListener {
  /** Time. */
  readonly clock: Clock;
  /** Told what a person has to read. */
  readonly tell: Tell;
  /** Told why the queue cannot be asked for packets; undefined: it can again. */
  readonly onUnreadable: (why: string | undefined) => void;
}

/**
 * Tells of packets that were dropped or have died, and of a queue that cannot be read or written.
 *
 * @returns Ends it.
 */
export function tellOfQueue(
  queue: OutboundQueue,
  { clock, tell, onUnreadable }: QueueListener,
): () => void {
  const sending = sendingSideOf(queue);
  const listening = [
    queue.subscribeDropped((dropped) => tell("warn", wordsForDropped(dropped))),
    queue.subscribeDead((dead) => tell("warn", wordsForDead(dead))),
    sending.subscribeStoring(storingTeller(clock, tell)),
    sending.subscribePollFailures((failure) => {
      onUnreadable(failure === undefined ? undefined : messageOf(failure));
      tell(
        "warn",
        failure === undefined
          ? "the queue can be read again"
          : `the queue cannot be looked at for other processes' packets: ${messageOf(failure)}`,
      );
    }),
  ];
  return () => listening.forEach((end) => end());
}

/** Tells of a queue that takes no packets: at the begin, again while it lasts, and at the end. */
export function storingTeller(
  clock: Clock,
  tell: Tell,
): (failure: StoreFailure | undefined) => void {
  let sinceMs: number | undefined;
  return (failure) => {
    const begins = sinceMs === undefined;
    sinceMs ??= clock.nowMs();
    const lastedMs = clock.nowMs() - sinceMs;
    const lasts = lastedMs >= LASTING_MS;
    if (failure === undefined) {
      sinceMs = undefined;
      tell(lasts ? "info" : "debug", `packets are stored again, after ${spanWords(lastedMs)}`);
    } else if (begins) tell("debug", `nothing can be stored: ${failure.words}`);
    else if (lasts) tell("warn", `nothing was stored for ${spanWords(lastedMs)}: ${failure.words}`);
  };
}
