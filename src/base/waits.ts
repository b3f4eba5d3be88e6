/** Waiting, of which nothing is left behind: an `AbortSignal` may outlive thousands of waits. */

import { systemClock } from "./clock.ts";
import type { Clock } from "./ports.ts";

/** Resolves after a time. */
export function rest(clock: Pick<Clock, "setTimer">, delayMs: number): Promise<void> {
  return new Promise((resolve) => void clock.setTimer(delayMs, resolve));
}

/** What waits for a signal, and the one listener for all of it. */
interface Waiting {
  readonly callbacks: Set<() => void>;
  readonly listener: () => void;
}

/** A signal goes through its listeners at each call that adds or removes one: it gets one alone. */
const waitingFor = new WeakMap<AbortSignal, Waiting>();

/**
 * Calls back once, when the signal is aborted, in the order of the calls of this.
 *
 * @param callback Throws nothing, and is no other call's.
 * @returns Takes it back.
 */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined) return () => {};
  let waiting = waitingFor.get(signal);
  if (waiting === undefined) {
    waiting = listenTo(signal);
    waitingFor.set(signal, waiting);
  }
  const { callbacks, listener } = waiting;
  callbacks.add(callback);
  return () => {
    if (!callbacks.delete(callback) || callbacks.size > 0) return;
    waitingFor.delete(signal);
    signal.removeEventListener("abort", listener);
  };
}

function listenTo(signal: AbortSignal): Waiting {
  const callbacks = new Set<() => void>();
  const listener = () => {
    waitingFor.delete(signal);
    for (const callback of callbacks) callback();
    callbacks.clear();
  };
  signal.addEventListener("abort", listener, { once: true });
  return { callbacks, listener };
}

/**
 * The outcome of a promise, but no later than at abort.
 *
 * @throws The signal's reason, also where it was aborted before.
 */
export async function unlessAborted<Value>(
  promise: Promise<Value>,
  signal: AbortSignal | undefined,
): Promise<Value> {
  if (signal === undefined) return await promise;
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  const forget = onAbort(signal, abort);
  if (signal.aborted) abort();
  try {
    return await Promise.race([aborted.promise, promise]);
  } finally {
    forget();
  }
}

/** Resolves after a time, or at abort. */
export async function restUnlessAborted(
  clock: Pick<Clock, "setTimer">,
  delayMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (signal?.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = clock.setTimer(delayMs, resolve);
  const forget = onAbort(signal, resolve);
  await promise;
  forget();
  cancel();
}

/** Waits for `promise`, but no longer than this; where it rejects in that time, so does this. */
export async function within(
  ms: number,
  promise: Promise<unknown>,
  clock: Clock = systemClock,
): Promise<void> {
  const { promise: timeUp, resolve } = Promise.withResolvers<void>();
  const cancel = ms === Infinity ? () => {} : clock.setTimer(ms, resolve);
  try {
    await Promise.race([promise, timeUp]);
  } finally {
    cancel();
  }
}

/*
 * What is done once a second, by everybody in a process: a thousand senders look after their
 * files, rates and other processes' packets, and a timer costs more than most of these looks.
 */

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
 * Calls back once a second; for the first time in `SHARE_MS`, or a second later.
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
