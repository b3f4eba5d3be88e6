/**
 * What a sender says about itself: its state, its counters, and each change.
 *
 * @module
 */

import type { Logger } from "../base/ports.ts";
import type { PathStats } from "./connection.ts";
import type { Verdict } from "./liveness.ts";

/** What the sender is doing; see {@linkcode DeliveryStatus}. */
export type SenderState =
  /** Nothing to send and no connection. */
  | "idle"
  /** An attempt is under way. */
  | "connecting"
  /** A connection is up. */
  | "connected"
  /** A connection takes no more packets and is being finished in order. */
  | "ending"
  /** The last attempt or connection failed; the next attempt comes by itself. */
  | "backing-off"
  /** The end. What was not confirmed is on disk. */
  | "closed";

/** Counters since the sender was opened, and what is under way now. */
export interface DeliveryStats {
  /** Packets given to the present connection and not drained. */
  readonly inFlightPackets: number;
  /** Bytes given to the present connection and not acknowledged. */
  readonly inFlightBytes: number;
  /** Packets drained whose `holdMs` has not passed. */
  readonly heldPackets: number;
  /** Packets whose last byte was acknowledged; one sent twice may count twice. */
  readonly drainedPackets: number;
  /** Bytes acknowledged, over all connections. */
  readonly ackedBytes: number;
  /** Packets sent again after an unclean end or a restart, each time they were. */
  readonly redeliveredPackets: number;
  /** Connections made. */
  readonly connections: number;
  /** Connection attempts that failed. */
  readonly failedAttempts: number;
  /** Bytes received from the peer. */
  readonly receivedBytes: number;
  /** The present connection as the kernel sees it; undefined while there is none. */
  readonly path: PathStats | undefined;
}

/** Published at each change. */
export interface DeliveryStatus {
  /** What the sender is doing. */
  readonly state: SenderState;
  /** The last verdict on the path. */
  readonly verdict: Verdict;
  /** The change in one sentence. */
  readonly words: string;
  /** How serious it is; the same as in the log. */
  readonly level: keyof Logger;
  /** What went wrong, where something did. */
  readonly error: Error | undefined;
}
