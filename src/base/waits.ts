/**
 * Waiting, of which nothing is left behind: an `AbortSignal` may outlive thousands of waits.
 *
 * @module
 */

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
