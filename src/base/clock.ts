import type { Clock } from "./ports.ts";

/** The longest delay that a timer takes, 24.8 days; beyond it `setTimeout` fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * The machine's own time.
 *
 * @category Tools
 */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback) {
    let cancel = () => {};
    const wait = (leftMs: number) => {
      const now = Math.min(leftMs, LONGEST_TIMER_MS);
      const timer = setTimeout(() => leftMs > now ? wait(leftMs - now) : callback(), now);
      cancel = () => clearTimeout(timer);
    };
    wait(delayMs);
    return () => cancel();
  },
  defer: (callback) => void setImmediate(callback),
};
