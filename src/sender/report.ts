/**
 * A sender's live state, for other processes: written into the lock file of its queue, at most
 * once a second and only while something changes.
 */

import type { Clock } from "../base/ports.ts";
import { describeVerdict, type Verdict, type VerdictKind } from "../delivery/liveness.ts";
import type {
  DeliveryStats,
  DeliveryStatus,
  Outage,
  SenderState,
  SenderStats,
} from "../delivery/status.ts";
import type { StoreFailure } from "../base/queue_stats.ts";
import { readSenderNotice } from "../queue/lock_file.ts";
import type { Condition } from "./condition.ts";
import type { Rates } from "./rate_meter.ts";
import { verdictToTell } from "./verdict_meaning.ts";

const INTERVAL_MS = 1000;
const MAX_TROUBLES = 5;
/** Says which shape the text has; a reader that does not know it says so. */
const FORMAT = 2;

/**
 * How a sender stands, as it has published it.
 *
 * @category Status
 */
export interface SenderReport
  extends Omit<SenderStats, "queue" | "receivedBytesDiscarded" | "cluster"> {
  /** When it was written, in milliseconds since 1970. */
  readonly atMs: number;
  /** When the sender was opened, in milliseconds since 1970. */
  readonly startedAtMs: number;
  /** Where it delivers to: `"tcp://legacy:4000"`. */
  readonly remote: string;
  /** What it is doing. */
  readonly state: SenderState;
  /**
   * The verdict on the path; absent without a connection, unless it says why the last one ended
   * or there is none.
   */
  readonly verdict?: VerdictKind;
  /** The verdict in words; absent where it is. */
  readonly verdictWords?: string;
  /** State and verdict in words. */
  readonly condition: Condition;
  /** The present outage; absent while there is none. */
  readonly outage?: Outage;
  /** Why nothing can be stored by its process; absent while packets are. */
  readonly storeFailure?: StoreFailure;
  /** The last lines of the log that were warnings or errors, oldest first. */
  readonly troubles: readonly {
    /** When, in milliseconds since 1970. */
    readonly atMs: number;
    /** What. */
    readonly words: string;
  }[];
  /** Packets drained a second, over the last three seconds. */
  readonly packetsPerSecond: number;
  /** Bytes acknowledged a second, likewise. */
  readonly bytesPerSecond: number;
}

export interface ReportPublisherOptions {
  readonly remote: string;
  readonly clock: Clock;
  /** How things stand now. */
  readonly read: () => {
    readonly state: SenderState;
    readonly verdict: Verdict;
    readonly stats: DeliveryStats;
    readonly condition: Condition;
    readonly outage: Outage | undefined;
    readonly rates: Rates;
    readonly storeFailure: StoreFailure | undefined;
  };
  /** Writes a text to where other processes read it. */
  readonly publish: (text: string) => void;
}

export class ReportPublisher {
  readonly #options: ReportPublisherOptions;
  readonly #startedAtMs: number;
  readonly #troubles: { readonly atMs: number; readonly words: string }[] = [];
  #stopped = false;
  #writtenAtMs = -Infinity;
  #written = "";

  constructor(options: ReportPublisherOptions) {
    this.#options = options;
    this.#startedAtMs = options.clock.wallMs();
    this.refresh();
  }

  /** Takes in a change, which is published within a second. */
  take(status: DeliveryStatus): void {
    const { level, words } = status;
    const { clock } = this.#options;
    if (level === "warn" || level === "error") {
      this.#troubles.push({ atMs: clock.wallMs(), words });
      if (this.#troubles.length > MAX_TROUBLES) this.#troubles.shift();
    }
    if (clock.nowMs() - this.#writtenAtMs >= INTERVAL_MS) this.refresh();
  }

  stop(): void {
    this.#stopped = true;
  }

  /**
   * Publishes how things stand, where that has changed; to be called once a second.
   *
   * @returns Whether others can read it now.
   */
  refresh(): boolean {
    if (this.#stopped) return true;
    const { clock, remote, read, publish } = this.#options;
    const { state, verdict: last, stats, condition, outage, rates, storeFailure } = read();
    const verdict = verdictToTell(state, last);
    const content = {
      format: FORMAT,
      startedAtMs: this.#startedAtMs,
      remote,
      state,
      verdict: verdict?.kind,
      verdictWords: verdict && describeVerdict(verdict),
      condition,
      outage,
      storeFailure,
      troubles: this.#troubles,
      packetsPerSecond: Math.round(rates.drainedPacketsPerSecond),
      bytesPerSecond: Math.round(rates.ackedBytesPerSecond),
      ...stats,
    };
    const text = JSON.stringify(content);
    if (text === this.#written) return true;
    try {
      publish(JSON.stringify({ atMs: clock.wallMs(), ...content }));
    } catch {
      return false; // The disk is full. Delivery goes on, and the next second tries again.
    }
    this.#written = text;
    this.#writtenAtMs = clock.nowMs();
    return true;
  }
}

/**
 * Asks which sender runs on a queue, in whichever process, and how it stood at most a second
 * ago. Needs `--allow-read` for the queue's `.lock` file.
 *
 * @category Status
 * @returns Its process, and what it said last; that is undefined where it said nothing, or
 *   nothing that this version knows. `undefined`: no sender runs.
 * @throws {QueueFileError} The lock file cannot be read.
 *
 * @example
 * ```ts
 * import { readRunningSender, Sender } from "@sendq/sendq";
 * import assert from "node:assert/strict";
 *
 * const queue = `${await Deno.makeTempDir()}/outbox.db`;
 * assert.equal(await readRunningSender(queue), undefined);
 * await using _sender = await Sender.open(queue, "tcp://127.0.0.1:4000");
 * const running = await readRunningSender(queue);
 * assert.deepEqual([running?.pid, running?.report?.state], [Deno.pid, "idle"]);
 * ```
 */
export async function readRunningSender(
  queuePath: string,
): Promise<{ readonly pid: number; readonly report: SenderReport | undefined } | undefined> {
  const notice = await readSenderNotice(queuePath);
  return notice && { pid: notice.pid, report: parseReport(notice.text) };
}

/** `undefined`: the text is no report that this version knows. */
export function parseReport(text: string): SenderReport | undefined {
  try {
    const report: unknown = JSON.parse(text);
    return isLike(EXAMPLE, report) && report.format === FORMAT ? report : undefined;
  } catch {
    return undefined;
  }
}

/** One of everything: whoever may write the lock file may write anything into it. */
const EXAMPLE: SenderReport & { readonly format: number } = {
  format: FORMAT,
  atMs: 0,
  startedAtMs: 0,
  remote: "tcp://legacy:4000",
  state: "idle",
  verdict: "healthy",
  verdictWords: "healthy",
  condition: { tone: "idle", headline: "", detail: "" },
  outage: {
    number: 1,
    sinceMs: 0,
    cause: "",
    latest: "",
    failedAttempts: 0,
    brokenConnections: 0,
    confirms: false,
  },
  storeFailure: { reason: "disk-full", words: "", sinceMs: 0 },
  troubles: [{ atMs: 0, words: "" }],
  packetsPerSecond: 0,
  bytesPerSecond: 0,
  inFlightPackets: 0,
  inFlightBytes: 0,
  heldPackets: 0,
  confirmedBy: "kernel",
  drainedPackets: 0,
  confirmedPackets: 0,
  ackedBytes: 0,
  redeliveredPackets: 0,
  connections: 0,
  failedAttempts: 0,
  receivedBytes: 0,
  path: {
    localAddress: "192.0.2.1:50123",
    remoteAddress: "192.0.2.7:4000",
    rttMs: 0,
    sendQueueBytes: 0,
    notSentBytes: 0,
    sendWindowBytes: 0,
    retransmittedSegments: 0,
    silenceMs: 0,
    tls: {
      version: "TLSv1.3",
      cipherSuite: "TLS_AES_256_GCM_SHA384",
      serverCertificateExpiresAtMs: 0,
      clientCertificateExpiresAtMs: 0,
    },
  },
};
/** What may be absent, wherever it stands. */
const OPTIONAL = new Set([
  "verdict",
  "verdictWords",
  "outage",
  "storeFailure",
  "path",
  "sendWindowBytes",
  "tls",
  "clientCertificateExpiresAtMs",
]);

/** Whether a value has the fields of an example, of the same types, at every depth. */
function isLike<T extends object>(example: T, value: unknown): value is T {
  if (typeof value !== "object" || value === null) return false;
  if (Array.isArray(example)) {
    return Array.isArray(value) && value.every((item) => isLike(example[0], item));
  }
  return Object.entries(example).every(([name, part]) => {
    const found: unknown = Object.getOwnPropertyDescriptor(value, name)?.value;
    if (found === undefined) return OPTIONAL.has(name);
    return typeof part === "object" ? isLike(part, found) : typeof found === typeof part;
  });
}
