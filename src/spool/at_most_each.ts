import type { Clock } from "../base/ports.ts";

/**
 * Asks at most so often, and gives the last answer in between: what is the same for a thousand
 * queues is asked once.
 */
export function atMostEach<T>(intervalMs: number, clock: Clock, ask: () => T): () => T {
  let askedAtMs = -Infinity;
  let answer: T;
  return () => {
    const nowMs = clock.nowMs();
    if (nowMs - askedAtMs >= intervalMs) {
      askedAtMs = nowMs;
      answer = ask();
    }
    return answer;
  };
}
