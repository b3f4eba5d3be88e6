/**
 * The connections that a test server accepts, for as long as it listens.
 *
 * @module
 */

import { isOfOneClient } from "../src/kernel/listen.ts";

/** The listener has been closed. */
const CLOSED: readonly string[] = ["BadResource", "Interrupted"];

/**
 * Yields each accepted connection until the listener is closed.
 *
 * The listener's own iterator throws, and its server is gone, when a client
 * has reset its connection before it could be accepted: that happens on a busy
 * machine, and to every sender that gives up an attempt.
 */
export async function* connectionsOf<C extends Deno.Conn>(
  listener: Deno.Listener<C>,
): AsyncGenerator<C> {
  for (;;) {
    try {
      yield await listener.accept();
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      if (CLOSED.includes(error.name)) return;
      if (!isOfOneClient(error)) throw error;
    }
  }
}
