/**
 * Watches a sender for people: keeps a short history and the last events, and
 * knows for how long nothing has been delivered.
 *
 * Bounds: 300 samples (5 minutes), 50 events, whatever happens.
 *
 * @module
 */

import type { Clock } from "../base/ports.ts";
import { describeVerdict, type Verdict } from "../delivery/liveness.ts";
import type { SenderState } from "../delivery/status.ts";
import { type Condition, ConditionTracker } from "../sender/condition.ts";
import type { Sender, SenderStats, SenderStatus } from "../sender/sender.ts";

/** A sample is taken this often. */
const SAMPLE_INTERVAL_MS = 1000;
/** Rates are those of this long: a single second jumps too much to be read. */
const RATE_WINDOW_MS = 3000;
const MAX_SAMPLES = 300;
const MAX_EVENTS = 50;

/** How things stood at one moment; for charts. */
export interface Sample {
  /** When, in milliseconds since 1970. */
  readonly atMs: number;
  /** {@linkcode Condition.tone}. */
  readonly tone: Condition["tone"];
  /** Packets on disk. */
  readonly queuedPackets: number;
  /** Send-Q of the present connection; `null`: there is none. */
  readonly sendQueueBytes: number | null;
  /** Round-trip time of the present connection; `null`: there is none. */
  readonly rttMs: number | null;
  /** Packets stored, by the seconds before. */
  readonly storedPerSecond: number;
  /** Packets acknowledged, by the seconds before. */
  readonly drainedPerSecond: number;
  /** Bytes acknowledged, by the seconds before. */
  readonly ackedBytesPerSecond: number;
}

/** One change in a sender's life. */
export interface StatusEvent {
  /** Counts from 1. */
  readonly number: number;
  /** When, in milliseconds since 1970. */
  readonly atMs: number;
  /** How often it happened since the last connection; attempts repeat themselves. */
  readonly times: number;
  /** When it happened last. */
  readonly lastAtMs: number;
  /** What the sender went on to do. */
  readonly state: SenderState;
  /** The verdict then. */
  readonly verdict: Verdict["kind"];
  /** The change in one sentence. */
  readonly words: string;
  /** Whether something went wrong. */
  readonly failure: boolean;
}

/** Whether the sender does its work. */
export interface Health {
  /** Undeliverable for no longer than the limit. */
  readonly ok: boolean;
  /** In words. */
  readonly reason: string;
  /** How long packets have waited without a byte being acknowledged; 0: they have not. */
  readonly undeliverableMs: number;
  /** The limit. */
  readonly undeliverableLimitMs: number;
}

/** How things stand: what `/status` answers. */
export interface StatusReport {
  /** When, in milliseconds since 1970. */
  readonly atMs: number;
  /** When the watching began. */
  readonly watchedSinceMs: number;
  /** Where the sender delivers to. */
  readonly remote: string;
  /** The queue's file. */
  readonly queuePath: string;
  /** What the sender is doing. */
  readonly state: SenderState;
  /** The last verdict on the path, and the same in words. */
  readonly verdict: Verdict & { readonly words: string };
  /** State and verdict in words. */
  readonly condition: Condition;
  /** What `/healthz` says. */
  readonly health: Health;
  /** Counters and figures. */
  readonly stats: SenderStats;
  /** Rates, and what the charts show last. */
  readonly sample: Sample;
  /** The packet that has waited longest. */
  readonly oldestPacket: OldestPacket | null;
  /** The last event that was a failure. */
  readonly lastFailure: StatusEvent | null;
}

/** The packet that has waited longest. */
export interface OldestPacket {
  /** Its id; an estimate while packets are removed. */
  readonly id: number;
  /** When it was stored. */
  readonly storedAtMs: number;
  /** How long ago that was. */
  readonly ageMs: number;
  /** Its size; only where payloads are shown. */
  readonly bytes?: number;
  /** Its first bytes, in Base64; only where payloads are shown. */
  readonly head?: string;
}

/** What is told to whoever subscribes. */
export type Message =
  | { readonly kind: "event"; readonly event: StatusEvent }
  | { readonly kind: "sample" }
  | { readonly kind: "end" };

/** Watches one sender. */
export class Monitor {
  readonly #sender: Sender;
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #statuses: AsyncIterableIterator<SenderStatus>;
  readonly #watchedSinceMs: number;
  readonly #listeners = new Set<(message: Message) => void>();
  readonly #events: StatusEvent[] = [];
  readonly #samples: Sample[] = [];
  readonly #recent: { readonly atMs: number; readonly stats: SenderStats }[] = [];
  readonly #condition = new ConditionTracker();
  #eventCount = 0;
  #lastFailure: StatusEvent | null = null;
  #ackedBytes: number;
  #undeliveredSinceMs: number | undefined;
  #cancelTimer: () => void = () => {};

  /**
   * @param sender Whom to watch.
   * @param clock Time.
   * @param undeliverableLimitMs How long nothing may be delivered.
   */
  constructor(sender: Sender, clock: Clock, undeliverableLimitMs: number) {
    this.#sender = sender;
    this.#clock = clock;
    this.#limitMs = undeliverableLimitMs;
    this.#watchedSinceMs = clock.wallMs();
    this.#ackedBytes = sender.stats().ackedBytes;
    this.#statuses = sender.status();
    void this.#follow();
    this.#sample();
  }

  /** The last samples, oldest first. */
  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** The last events, oldest first. */
  get events(): readonly StatusEvent[] {
    return this.#events;
  }

  /** How things stand. */
  report(): StatusReport {
    const stats = this.#sender.stats();
    const { verdict } = this.#sender;
    return {
      atMs: this.#clock.wallMs(),
      watchedSinceMs: this.#watchedSinceMs,
      remote: this.#sender.remote,
      queuePath: this.#sender.queue.path,
      state: this.#sender.state,
      verdict: { ...verdict, words: describeVerdict(verdict) },
      condition: this.#conditionOf(stats),
      health: this.health(),
      stats,
      sample: this.#samples.at(-1) ?? this.#sampleOf(stats),
      oldestPacket: this.#oldestPacket(stats),
      lastFailure: this.#lastFailure,
    };
  }

  /** Whether the sender does its work. */
  health(): Health {
    const stats = this.#sender.stats();
    const nowMs = this.#clock.nowMs();
    this.#measureDelivery(stats, nowMs);
    const undeliverableMs = nowMs - (this.#undeliveredSinceMs ?? nowMs);
    const closed = this.#sender.state === "closed";
    const ok = !closed && undeliverableMs <= this.#limitMs;
    const { headline, detail } = this.#conditionOf(stats);
    const condition = `${headline}. ${detail}`;
    const reason = undeliverableMs === 0 || closed
      ? condition
      : `No byte acknowledged for ${seconds(undeliverableMs)} (limit ${seconds(this.#limitMs)}), ` +
        `packets queued: ${stats.queue.packets}. ${condition}`;
    return { ok, reason, undeliverableMs, undeliverableLimitMs: this.#limitMs };
  }

  /**
   * Calls back with each event and each sample.
   *
   * @returns The unsubscription.
   */
  subscribe(listener: (message: Message) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Watches no more. Idempotent. */
  stop(): void {
    this.#cancelTimer();
    void this.#statuses.return?.();
    this.#tell({ kind: "end" });
    this.#listeners.clear();
  }

  async #follow(): Promise<void> {
    for await (const status of this.#statuses) {
      const failure = this.#condition.take(status);
      const { atMs, state, verdict, words } = status;
      const at = this.#indexOfSame(status);
      const same = this.#events[at];
      const event: StatusEvent = same === undefined
        ? {
          number: ++this.#eventCount,
          atMs,
          times: 1,
          lastAtMs: atMs,
          state,
          verdict: verdict.kind,
          words,
          failure,
        }
        : { ...same, times: same.times + 1, lastAtMs: atMs };
      if (same === undefined) this.#events.push(event);
      else this.#events[at] = event;
      if (this.#events.length > MAX_EVENTS) this.#events.shift();
      if (failure) this.#lastFailure = event;
      this.#tell({ kind: "event", event });
    }
  }

  /** Where the same is told already, since the last time that there was a connection; or -1. */
  #indexOfSame({ state, words }: SenderStatus): number {
    const attempts = ["connecting", "backing-off"];
    if (!attempts.includes(state)) return -1;
    for (let at = this.#events.length - 1; at >= 0; at--) {
      const event = this.#events[at];
      if (event === undefined || !attempts.includes(event.state)) return -1;
      if (event.state === state && event.words === words) return at;
    }
    return -1;
  }

  #sample(): void {
    this.#cancelTimer = this.#clock.setTimer(SAMPLE_INTERVAL_MS, () => this.#sample());
    const stats = this.#sender.stats();
    const nowMs = this.#clock.nowMs();
    this.#measureDelivery(stats, nowMs);
    this.#samples.push(this.#sampleOf(stats));
    if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
    this.#recent.push({ atMs: nowMs, stats });
    while (nowMs - (this.#recent[0]?.atMs ?? nowMs) > RATE_WINDOW_MS) this.#recent.shift();
    this.#tell({ kind: "sample" });
  }

  #sampleOf(stats: SenderStats): Sample {
    const past = this.#recent[0];
    const elapsedMs = past === undefined ? 0 : this.#clock.nowMs() - past.atMs;
    const perSecond = (read: (stats: SenderStats) => number) =>
      past === undefined || elapsedMs <= 0
        ? 0
        : Math.max(0, 1000 * (read(stats) - read(past.stats)) / elapsedMs);
    return {
      atMs: this.#clock.wallMs(),
      tone: this.#conditionOf(stats).tone,
      queuedPackets: stats.queue.packets,
      sendQueueBytes: stats.path?.sendQueueBytes ?? null,
      rttMs: stats.path?.rttMs ?? null,
      storedPerSecond: perSecond(({ queue }) => queue.lastId),
      drainedPerSecond: perSecond(({ drainedPackets }) => drainedPackets),
      ackedBytesPerSecond: perSecond(({ ackedBytes }) => ackedBytes),
    };
  }

  /** Undeliverable: packets wait that are not acknowledged, and nothing is being acknowledged. */
  #measureDelivery(stats: SenderStats, nowMs: number): void {
    const waiting = stats.queue.packets > stats.heldPackets;
    const progressed = stats.ackedBytes > this.#ackedBytes;
    this.#ackedBytes = stats.ackedBytes;
    if (!waiting) this.#undeliveredSinceMs = undefined;
    else if (progressed) this.#undeliveredSinceMs = nowMs;
    else this.#undeliveredSinceMs ??= nowMs;
  }

  #conditionOf(stats: SenderStats): Condition {
    const before = this.#recent[0]?.stats.drainedPackets ?? stats.drainedPackets;
    return this.#condition.condition(stats.queue.packets, stats.drainedPackets > before);
  }

  #oldestPacket(stats: SenderStats): OldestPacket | null {
    const { oldestEnqueuedAtMs } = stats.queue;
    if (oldestEnqueuedAtMs === undefined) return null;
    return {
      id: this.#sender.queue.removedThroughId + 1,
      storedAtMs: oldestEnqueuedAtMs,
      ageMs: Math.max(0, this.#clock.wallMs() - oldestEnqueuedAtMs),
    };
  }

  #tell(message: Message): void {
    for (const listener of this.#listeners) listener(message);
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
