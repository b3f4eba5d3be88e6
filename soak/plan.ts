/**
 * Which faults happen when, drawn from a seed.
 *
 * @module
 */

import { SeededRandom } from "../simulation/random.ts";

/** What is broken, and mended again. */
export type FaultKind =
  /** kill -9 of the server; it is started again. */
  | "server-killed"
  /** The same, stopped for less than the hold before: it dies with packets that it has not read. */
  | "server-killed-unread"
  /** SIGSTOP of the server, then SIGCONT. */
  | "server-stopped"
  /** The server reads what has arrived and closes every connection; it goes on listening. */
  | "server-closes"
  /** The path drops everything, one way or both; it heals. Needs a test network. */
  | "path-cut"
  /** The server resets every connection: what stands for a cut where there is no test network. */
  | "connection-reset"
  /** kill -9 of the sending process; it is started again. */
  | "sender-killed";

/** One fault. */
export interface Fault {
  readonly kind: FaultKind;
  /** When it begins, counted from the start of the run. */
  readonly atMs: number;
  /** From its beginning to its mending; 0 for what is over at once. */
  readonly lengthMs: number;
  /** Which packets a cut path drops. */
  readonly direction: "both" | "to-server" | "to-client";
}

const MIN_INTERVAL_MS = 2_000;
const MAX_INTERVAL_MS = 10_000;
/** What everything has between two faults to come back to its usual pace. */
const REST_MS = 1_000;
/** Twice the time in which a dead path is named: some cuts heal before, some long after. */
const MAX_LENGTH_MS = 6_000;
const AT_ONCE: ReadonlySet<FaultKind> = new Set(["server-closes", "connection-reset"]);

/**
 * Draws the faults of a run: one begins each 2 to 10 s, and is mended at least 1 s before the
 * next. Each kind has its turn before any comes again.
 *
 * The sender is killed in the first quarter only, and twice as often as the rest. A process that
 * starts anew hides what it had leaked. The last one has warmed up when the second third begins,
 * and lives to the end, so that what it leaks shows.
 *
 * @param seed The same seed and duration draw the same faults.
 * @param durationMs How long the run is.
 * @param network Whether there is a path that can be cut.
 */
export function planFaults(seed: number, durationMs: number, network: boolean): Fault[] {
  const random = new SeededRandom(seed);
  const faults: Fault[] = [];
  const always: readonly FaultKind[] = [
    ...["server-killed", "server-killed-unread", "server-stopped", "server-closes"] as const,
    network ? "path-cut" : "connection-reset",
  ];
  let bag: FaultKind[] = [];
  let atMs = random.between(MIN_INTERVAL_MS, MAX_INTERVAL_MS);
  for (;;) {
    const killsSender = atMs < durationMs / 4;
    if (!killsSender) bag = bag.filter((kind) => kind !== "sender-killed");
    if (bag.length === 0) {
      bag = [...always, ...(killsSender ? ["sender-killed", "sender-killed"] as const : [])];
    }
    const [kind] = bag.splice(random.int(0, bag.length - 1), 1);
    const intervalMs = random.between(MIN_INTERVAL_MS, MAX_INTERVAL_MS);
    const drawnMs = random.between(0, Math.min(intervalMs - REST_MS, MAX_LENGTH_MS));
    const direction = random.pick(["both", "to-server", "to-client"] as const);
    if (kind === undefined || atMs + intervalMs > durationMs) return faults;
    faults.push({ kind, atMs, lengthMs: AT_ONCE.has(kind) ? 0 : drawnMs, direction });
    atMs += intervalMs;
  }
}
