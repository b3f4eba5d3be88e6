import type { Clock } from "./ports.ts";

/** The longest delay that a timer takes, 24.8 days; beyond it `setTimeout` fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** From here on a timer may be late by `SLOT_MS`. */
const SHARED_FROM_MS = 1000;
/** Timers that are due within the same of these share a wake-up of the event loop. */
const SLOT_MS = 20;

/** Timers that are due at the same time. */
interface Slot {
  readonly callbacks: Set<() => void>;
  readonly timer: ReturnType<typeof setTimeout>;
}

/**
 * Long timers, by when they are due. A wake-up costs more than what most of them do, and a
 * process with a thousand senders has some thousand timers of a second.
 */
const slots = new Map<number, Slot>();

/**
 * The machine's own time. A timer of a second or more may be 20 ms late.
 *
 * @category Tools
 */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback) {
    if (delayMs >= SHARED_FROM_MS) return setSharedTimer(delayMs, callback);
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
  defer: (callback) => void setImmediate(callback),
};

function setSharedTimer(delayMs: number, callback: () => void): () => void {
  const now = Math.min(delayMs, LONGEST_TIMER_MS);
  const dueMs = SLOT_MS * Math.ceil((performance.now() + now) / SLOT_MS);
  let cancel = () => {};
  const { callbacks, timer } = slotAt(dueMs);
  const call = () => {
    if (delayMs > now) cancel = systemClock.setTimer(delayMs - now, callback);
    else callback();
  };
  callbacks.add(call);
  cancel = () => {
    if (!callbacks.delete(call) || callbacks.size > 0) return;
    clearTimeout(timer);
    slots.delete(dueMs);
  };
  return () => cancel();
}

function slotAt(dueMs: number): Slot {
  const known = slots.get(dueMs);
  if (known !== undefined) return known;
  const callbacks = new Set<() => void>();
  const inMs = Math.min(LONGEST_TIMER_MS, Math.ceil(dueMs - performance.now()));
  const timer = setTimeout(() => {
    slots.delete(dueMs);
    for (const call of callbacks) {
      // Each by itself: one that throws must not keep the others from being called.
      queueMicrotask(() => {
        // Another one may have cancelled it.
        if (callbacks.delete(call)) call();
      });
    }
  }, inMs);
  const slot = { callbacks, timer };
  slots.set(dueMs, slot);
  return slot;
}
