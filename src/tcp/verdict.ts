/** What a watched connection is found to be, and the error that says it is dead. */

import type { LocalFault } from "../base/ports.ts";
import { describeVerdict } from "../delivery/liveness.ts";

/**
 * How a watched connection is doing, by `kind`:
 *
 * - `"healthy"`: acknowledgements arrive, or nothing is under way
 * - `"slow"`: the oldest byte has waited for more than a second, not long enough for a decision
 * - `"peer-stalled"`: the peer's TCP answers and its program does not read: the window is closed
 * - `"peer-closed"`: the peer has sent its FIN; it may still read
 * - `"path-dead"`: bytes are under way and nothing at all came back
 * - `"local-fault"`: the same, or about to be, and the cause is on this host
 * - `"died"`: the kernel has ended the connection, by a reset that came or by a timer of its
 *   own. Which of them says the error of the read or write that is pending or comes next: it
 *   is told once, and is not taken from them
 */
export type WatchVerdict =
  | { readonly kind: "healthy" }
  | { readonly kind: "slow"; readonly oldestUnackedMs: number; readonly silenceMs: number }
  | { readonly kind: "peer-stalled"; readonly stalledMs: number }
  | { readonly kind: "peer-closed" }
  | { readonly kind: "path-dead"; readonly silenceMs: number }
  | { readonly kind: "local-fault"; readonly fault: LocalFault; readonly silenceMs: number }
  | { readonly kind: "died" };

/** The connection is dead: it was given up, or the kernel has ended it. */
export class DeadConnectionError extends Error {
  /** The class by name. */
  override readonly name = "DeadConnectionError";
  /** What it was found to be. */
  readonly verdict: WatchVerdict;

  /** Makes it of its fields. */
  constructor(verdict: WatchVerdict) {
    super(
      `The connection is dead: ${describeWatchVerdict(verdict)}. Make a new one; what was not ` +
        `acknowledged may have arrived or not.`,
    );
    this.verdict = verdict;
  }
}

/**
 * Says a verdict in words, for a person.
 *
 * @returns For example `"path dead: not a sign of the peer for 3.1 s"`.
 */
export function describeWatchVerdict(verdict: WatchVerdict): string {
  switch (verdict.kind) {
    case "died":
      return "the kernel has ended it; its read or write says whether by a reset, by a timer or in " +
        "order";
    case "path-dead":
      return describeVerdict({ ...verdict, hint: undefined });
    default:
      return describeVerdict(verdict);
  }
}
