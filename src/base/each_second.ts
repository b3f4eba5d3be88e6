/**
 * What is done once a second, by everybody in a process: a thousand senders look after their
 * files, rates and other processes' packets, and a timer costs more than most of these looks.
 *
 * @module
 */

import type { Clock } from "./ports.ts";

const SECOND_MS = 1000;
/** Those that begin within the same of these share a timer; apart from them the work is spread. */
const SHARE_MS = 50;

/** Those whose second begins at the same time. */
interface Beat {
  readonly callbacks: Set<() => void>;
  dueMs: number;
  cancel: () => void;
}

/** By whose time they go, and by where in the second they begin. */
const beatsOf = new WeakMap<Clock, Map<number, Beat>>();

/**
 * Calls back once a second; for the first time in {@linkcode SHARE_MS}, or a second later.
 *
 * @returns Ends it.
 */
export function eachSecond(clock: Clock, callback: () => void): () => void {
  let beats = beatsOf.get(clock);
  if (beats === undefined) beatsOf.set(clock, beats = new Map());
  const shares = Math.ceil(clock.nowMs() / SHARE_MS);
  const share = shares % (SECOND_MS / SHARE_MS);
  let beat = beats.get(share);
  if (beat === undefined) {
    const dueMs = shares * SHARE_MS + SECOND_MS;
    beats.set(share, beat = { callbacks: new Set(), dueMs, cancel: () => {} });
    schedule(beat, clock);
  }
  // Not the callback itself: somebody may come twice with the same one.
  const call = () => callback();
  const { callbacks } = beat;
  callbacks.add(call);
  return () => {
    if (!callbacks.delete(call) || callbacks.size > 0) return;
    beat.cancel();
    beats.delete(share);
  };
}

function schedule(beat: Beat, clock: Clock): void {
  beat.cancel = clock.setTimer(beat.dueMs - clock.nowMs(), () => {
    // What was missed while the loop stood still is not caught up with.
    const missed = Math.floor((clock.nowMs() - beat.dueMs) / SECOND_MS);
    beat.dueMs += SECOND_MS * (1 + Math.max(0, missed));
    schedule(beat, clock);
    // As it is now: who comes meanwhile has a second.
    for (const call of [...beat.callbacks]) if (beat.callbacks.has(call)) guarded(call);
  });
}

/** One that throws must not keep the others from being called. */
function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
