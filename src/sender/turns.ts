import { systemClock } from "../base/clock.ts";
import { rest } from "../base/waits.ts";

/** A connection has a second to be made: it must not stand still for much of it. */
const REST_EVERY_MS = 100;
/** A look-up, a connect and what comes after it are looked after in a turn each. */
const TURNS = 4;

let restedAtMs = systemClock.nowMs();

/**
 * Opening a queue is work without a pause: a hundred in a row are one turn of the event loop, in
 * which no connection is made and each attempt times out (deno_facts, The event loop). Resolves
 * at once, or after the connections under way have had their turns.
 */
export async function otherSendersTurn(): Promise<void> {
  if (systemClock.nowMs() - restedAtMs < REST_EVERY_MS) return;
  for (let turn = 0; turn < TURNS; turn++) {
    await rest(systemClock, 1);
  }
  restedAtMs = systemClock.nowMs();
}
