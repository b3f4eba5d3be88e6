/** The suite of wires over a Unix socket. */

import { CASES } from "./wire_cases.ts";
import { unixWirePair } from "./wire_pair.ts";

/**
 * What a Unix socket has in another way, each with a test of its own in
 * tests/kernel/unix_wire_cases.ts: a window that is shut is a write that waits, writing to a
 * peer that has ended fails at once, only a peer that ends with unread bytes is a reset, and
 * ours is none to the peer.
 */
const NOT_OF_UNIX: ReadonlySet<string> = new Set([
  "a peer that does not read shuts its window, and opens it again",
  "writing to a peer that closed is accepted, then answered by EPIPE",
  "a reset is told once: to a pending read",
  "abort resets the peer, rejects what is pending, and may be called again",
]);

for (const [name, check] of CASES) {
  if (NOT_OF_UNIX.has(name)) continue;
  Deno.test(`wire, Unix socket: ${name}`, async () => {
    using pair = await unixWirePair();
    await check(pair);
  });
}
