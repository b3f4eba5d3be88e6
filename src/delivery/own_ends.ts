/**
 * Ends of connections that this side has decided, for a reason that is neither the server's nor
 * the path's: they accuse no packet, and nobody is blamed for them.
 *
 * @module
 */

import type { Verdict } from "./liveness.ts";

/** Codes of a `WireError` by which a wire says so, and words where it has none. */
const OWN_ENDS: ReadonlyMap<string, string> = new Map([
  ["LAPSED", "this sender could not renew its right to send in time"],
  ["REPLACED", "the server has connected anew"],
  ["PREFERRED", "a preferred server is back"],
  ["TLS_KEY_USED_UP", "TLS 1.2 needs a new connection for a new key"],
]);

/**
 * The verdict on such an end; undefined: it is none.
 *
 * @param code What the wire failed with.
 * @param words The same in words, where it has some.
 */
export function ownEnd(code: string, words: string | undefined): Verdict | undefined {
  const usual = OWN_ENDS.get(code);
  return usual === undefined ? undefined : { kind: "ended-here", code, words: words ?? usual };
}
