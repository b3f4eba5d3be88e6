/** The suite of wires over the kernels that there are. */

import { grantedLibc, testUnless } from "../kernel/helpers.ts";
import { testWithUnixSockets } from "../support/unix_sockets.ts";
import { CASES } from "./wire_cases.ts";
import { realPair, simulatedPair, tlsPair, type WirePair, wrapped } from "./wire_pair.ts";

const KERNELS: readonly (readonly [string, string | undefined, () => Promise<WirePair>])[] = [
  ["simulated", undefined, simulatedPair],
  ["wrapped simulated", undefined, () => wrapped(simulatedPair)],
  [
    "real",
    grantedLibc() === undefined ? "needs --allow-ffi=<path of the C library>" : undefined,
    realPair,
  ],
  [
    "TLS over the real",
    grantedLibc() === undefined ? "needs --allow-ffi=<path of the C library>" : undefined,
    tlsPair,
  ],
];

/**
 * What TLS has in another way, each with a test of its own in tests/tls: its reader is
 * told of a reset, a write is in its hands before the kernel has it, a FIN without
 * close_notify is no orderly end, and a close_notify that a closed peer gets is answered
 * by a reset.
 */
const NOT_OF_TLS: ReadonlySet<string> = new Set([
  "a reset is told once: to SO_ERROR",
  "a reset is told once: to a pending read",
  "a reset leaves in Send-Q what was never acknowledged",
  "the peer's FIN first ends the same",
  "close after an orderly exchange ends the peer's stream, too",
]);

for (const [kernel, obstacle, open] of KERNELS) {
  for (const [name, check] of CASES) {
    if (open === tlsPair && NOT_OF_TLS.has(name)) continue;
    testUnless(obstacle, `wire, ${kernel} kernel: ${name}`, async () => {
      using pair = await open();
      await check(pair);
    });
  }
}

testWithUnixSockets(import.meta.resolve("./unix_conformance_cases.ts"));
