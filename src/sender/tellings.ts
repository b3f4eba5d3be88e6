/** What a user is told beside the states of a sender: what happens in its queue. */

import { messageOf } from "../base/errors.ts";
import type { Clock, Logger } from "../base/ports.ts";
import type { StoreFailure } from "../base/queue_stats.ts";
import type { DeadPackets } from "../queue/options.ts";
import { type OutboundQueue, sendingSideOf } from "../queue/queue.ts";
import type { DroppedPackets } from "../queue/store/types.ts";
import { spanWords } from "./outage.ts";

/** Whoever enqueues is told at once: a line beside that is said when it lasts. */
const LASTING_MS = 10_000;

/** Told one sentence, and how serious it is. */
export type Tell = (level: keyof Logger, words: string) => void;

export interface QueueListener {
  readonly clock: Clock;
  /** What the queue is called. */
  readonly name: string;
  readonly tell: Tell;
  /** Told why the queue cannot be asked for packets; undefined: it can again. */
  readonly onUnreadable?: (why: string | undefined) => void;
}

/**
 * Tells of packets that were dropped or have died, and of a queue that cannot be read or written.
 *
 * @returns Ends it.
 */
export function tellOfQueue(
  queue: OutboundQueue,
  { clock, name, tell, onUnreadable }: QueueListener,
): () => void {
  const sending = sendingSideOf(queue);
  const listening = [
    queue.subscribeDropped((dropped) => tell("warn", wordsForDropped(dropped))),
    queue.subscribeDead((dead) => tell("warn", wordsForDead(dead))),
    sending.subscribeStoring(storingTeller(clock, tell)),
    sending.subscribePollFailures((failure) => {
      onUnreadable?.(failure === undefined ? undefined : messageOf(failure));
      tell(
        "warn",
        failure === undefined
          ? `${name} can be read again`
          : `${name} cannot be looked at for other processes' packets: ${messageOf(failure)}`,
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

/**
 * `"3 packets expired and became dead letters (1200 bytes)"`; of damaged ones with
 * their ids, where those are all that there are between the first and the last.
 */
export function wordsForDead({ packets, bytes, reason, ids }: DeadPackets): string {
  const { firstId, lastId } = ids;
  const which = packets === 1
    ? `packet ${firstId}`
    : reason === "damaged" && packets === lastId + 1 - firstId
    ? `packets ${firstId} to ${lastId}`
    : `${packets} packets`;
  const [is, was] = packets === 1 ? ["is", "was"] : ["are", "were"];
  const what = {
    "gave-up": `${was} given up`,
    "damaged": `${is} damaged in the file`,
    "refused": `${was} refused by the server`,
    "expired": "expired",
  }[reason];
  const became = packets === 1 ? "became a dead letter" : "became dead letters";
  return `${which} ${what} and ${became} (${bytes} bytes)`;
}

/** `"too many packets: dropped the 3 oldest (1200 bytes)"` */
function wordsForDropped({ packets, bytes, throughId }: DroppedPackets): string {
  return throughId === 0
    ? `no room for all dead letters: dropped ${packets} (${bytes} bytes)`
    : `too many packets: dropped the ${packets} oldest (${bytes} bytes)`;
}
