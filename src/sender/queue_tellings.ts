/**
 * What befalls a queue beside its delivery, in words.
 *
 * @module
 */

import { messageOf } from "../base/errors.ts";
import { type OutboundQueue, sendingSideOf } from "../queue/queue.ts";
import { wordsForDead, wordsForDropped } from "./words_for_dead.ts";

/** Who hears of it. */
export interface QueueListener {
  /** Told what a person has to read. */
  readonly warn: (words: string) => void;
  /** Told why the queue cannot be asked for packets; undefined: it can again. */
  readonly onUnreadable: (why: string | undefined) => void;
}

/**
 * Tells of packets that were dropped or have died, and of a queue that cannot be read.
 *
 * @returns Ends it.
 */
export function tellOfQueue(
  queue: OutboundQueue,
  { warn, onUnreadable }: QueueListener,
): () => void {
  const sending = sendingSideOf(queue);
  const listening = [
    queue.subscribeDropped((dropped) => warn(wordsForDropped(dropped))),
    queue.subscribeDead((dead) => warn(wordsForDead(dead))),
    sending.subscribePollFailures((failure) => {
      onUnreadable(failure === undefined ? undefined : messageOf(failure));
      warn(
        failure === undefined
          ? "the queue can be read again"
          : `the queue cannot be looked at for other processes' packets: ${messageOf(failure)}`,
      );
    }),
  ];
  return () => listening.forEach((end) => end());
}
