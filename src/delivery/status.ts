/**
 * What a sender says about itself: its state, its counters, and each change. One type
 * each, with everything that a user sees; those further inside know a part of it.
 */

import type { ClusterStats } from "../base/cluster_stats.ts";
import type { Logger, TlsSession } from "../base/ports.ts";
import type { QueueStats } from "../base/queue_stats.ts";
import type { Verdict } from "./liveness.ts";

/**
 * What a sender is doing:
 *
 * - `"idle"`: nothing to send and no connection
 * - `"connecting"`: an attempt is under way
 * - `"connected"`: a connection is up
 * - `"ending"`: a connection takes no more packets and is being finished in order
 * - `"backing-off"`: the last attempt or connection failed; the next attempt comes by itself
 * - `"closed"`: the end; what was not confirmed is on disk
 *
 * @category Status
 */
export type SenderState =
  | "idle"
  | "connecting"
  | "connected"
  | "ending"
  | "backing-off"
  | "closed";

/**
 * Where a sender stands; counters run since it was opened.
 *
 * @category Status
 */
export interface SenderStats {
  /** Packets given to the present connection and not drained. */
  readonly inFlightPackets: number;
  /** Bytes given to the present connection and not acknowledged. */
  readonly inFlightBytes: number;
  /**
   * Packets drained that are not confirmed: whose `holdMs` has not passed or, where something
   * else confirms, that are not read or not answered.
   */
  readonly heldPackets: number;
  /**
   * What confirms a packet: `"kernel"`, acknowledged and held, `"reader"`, read by the
   * server's program, or `"answer"`, answered by it; see `SenderOptions.confirm`.
   */
  readonly confirmedBy: "kernel" | "reader" | "answer";
  /** Packets whose last byte was acknowledged; one sent twice may count twice. */
  readonly drainedPackets: number;
  /** Packets confirmed, each once; what the server has refused is not among them. */
  readonly confirmedPackets: number;
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
  /**
   * What the kernel last said about the present connection, at most a second ago;
   * undefined while there is none.
   */
  readonly path: {
    /** `"192.0.2.1:50123"`. */
    readonly localAddress: string;
    /** `"192.0.2.7:4000"`. */
    readonly remoteAddress: string;
    /** `tcpi_rtt`: the smoothed round-trip time. */
    readonly rttMs: number;
    /** Send-Q: bytes written and not acknowledged. */
    readonly sendQueueBytes: number;
    /** The part of Send-Q that was never put on the wire. */
    readonly notSentBytes: number;
    /** How much the peer is ready to take; undefined before Linux 5.4. */
    readonly sendWindowBytes: number | undefined;
    /** Segments retransmitted in this connection's life. */
    readonly retransmittedSegments: number;
    /** How long bytes have been outstanding without any sign of the peer. */
    readonly silenceMs: number;
    /** What TLS has agreed upon; left out where none is spoken. */
    readonly tls?: TlsSession;
  } | undefined;
  /** What lies on disk. */
  readonly queue: QueueStats;
  /** Bytes that the server sent and that nobody read in time. */
  readonly receivedBytesDiscarded: number;
  /** Lease and standbys, of a queue in a database; left out for a file. */
  readonly cluster?: ClusterStats;
}

/**
 * A time in which packets do not get through.
 *
 * @category Status
 */
export interface Outage {
  /** Counts from 1. */
  readonly number: number;
  /** When it began, in milliseconds since 1970. */
  readonly sinceMs: number;
  /** The first failure. */
  readonly cause: string;
  /** The last failure. */
  readonly latest: string;
  /** Connection attempts that failed in it. */
  readonly failedAttempts: number;
  /** Connections that broke in it. */
  readonly brokenConnections: number;
  /** Whether this connection confirms packets, or has begun and the last one did. */
  readonly confirms: boolean;
}

/**
 * One change in a sender's life.
 *
 * @category Status
 */
export interface SenderStatus {
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
  /** Whether something went wrong. */
  readonly failure: boolean;
  /** The outage that it belongs to. */
  readonly outage: Outage | undefined;
  /** When, by the wall clock, in milliseconds since 1970. */
  readonly atMs: number;
  /** How things stood then. */
  readonly stats: SenderStats;
}

/** What the delivery code counts of it. */
export type DeliveryStats = Omit<SenderStats, "queue" | "receivedBytesDiscarded">;
/** What a connection knows of it. */
export type PathStats = NonNullable<SenderStats["path"]>;
/** A change as the delivery code publishes it. */
export type DeliveryStatus = Pick<
  SenderStatus,
  "state" | "verdict" | "words" | "level" | "error"
>;
/** A change, and what the reporter of outages made of it. */
export type ToldStatus = Omit<SenderStatus, "atMs" | "stats">;

/** So many different failures of one outage are told once each. */
const MAX_TOLD = 16;

/** The failed attempts of one outage: one line an outage is news, one line a second is noise. */
export class ToldFailures {
  readonly #told = new Set<string>();

  /** How loudly a failure is said, in these words; the same again is for developers. */
  levelOf(words: string): "warn" | "debug" {
    const level = this.#told.has(words) ? "debug" : "warn";
    if (this.#told.size >= MAX_TOLD) this.#told.clear();
    this.#told.add(words);
    return level;
  }

  /** The outage is over. */
  forget(): void {
    this.#told.clear();
  }
}
