/**
 * Watches a sender for people: keeps a short history and the last events, and
 * knows for how long nothing has been delivered.
 *
 * Bounds: 300 samples (5 minutes), 50 events, whatever happens.
 */

import { seconds } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import { describeVerdict, type Verdict } from "../delivery/liveness.ts";
import type { Outage, SenderState, SenderStats, SenderStatus } from "../delivery/status.ts";
import { clusterTrouble } from "../sender/cluster_words.ts";
import type { Condition } from "../sender/condition.ts";
import { kindOf, outageWords } from "../sender/outage.ts";
import { behindOf, type Sender } from "../sender/sender.ts";
import { verdictToTell } from "../sender/verdict_meaning.ts";
import { Progress } from "./progress.ts";

/** A sample is taken this often. */
const SAMPLE_INTERVAL_MS = 1000;
const MAX_SAMPLES = 300;
const MAX_EVENTS = 50;

/** How things stood at one moment; for charts. */
export interface Sample {
  /** When, in milliseconds since 1970. */
  readonly atMs: number;
  /** The tone of its {@linkcode Condition}. */
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
  /** How often it happened in the same outage, or one after the other. */
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
  /** Undeliverable, and unable to store, for no longer than the limit. */
  readonly ok: boolean;
  /** In words. */
  readonly reason: string;
  /** How long packets have waited without a byte being acknowledged; 0: they have not. */
  readonly undeliverableMs: number;
  /** How long nothing could be stored by this process; 0: it can. */
  readonly unstorableMs: number;
  /** The limit of both. */
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
  /**
   * The verdict on the path, and the same in words; null without a connection, unless it says why
   * the last one ended or there is none.
   */
  readonly verdict: (Verdict & { readonly words: string }) | null;
  /** State and verdict in words. */
  readonly condition: Condition;
  /** The present outage, and for how long it has lasted, in words. */
  readonly outage: (Outage & { readonly words: string }) | null;
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

/** An event, and what makes another one the same. */
interface KeptEvent {
  readonly event: StatusEvent;
  readonly outage: number | undefined;
  readonly kind: string;
}

/** Watches one sender. */
export class Monitor {
  readonly #sender: Sender;
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #statuses: AsyncIterableIterator<SenderStatus>;
  readonly #watchedSinceMs: number;
  readonly #listeners = new Set<(message: Message) => void>();
  readonly #events: KeptEvent[] = [];
  readonly #samples: Sample[] = [];
  #eventCount = 0;
  #lastFailure: StatusEvent | null = null;
  readonly #progress: Progress;
  #cancelTimer: () => void = () => {};

  constructor(sender: Sender, clock: Clock, undeliverableLimitMs: number) {
    this.#sender = sender;
    this.#clock = clock;
    this.#limitMs = undeliverableLimitMs;
    this.#watchedSinceMs = clock.wallMs();
    this.#progress = new Progress(clock, this.#reachedBy(sender.stats()));
    this.#statuses = behindOf(sender).statuses();
    void this.#follow();
    this.#sample();
  }

  /** The last samples, oldest first. */
  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** The last events, oldest first. */
  get events(): readonly StatusEvent[] {
    return this.#events.map(({ event }) => event);
  }

  report(): StatusReport {
    const stats = this.#sender.stats();
    const { state, outage } = this.#sender;
    const verdict = verdictToTell(state, this.#sender.verdict);
    return {
      atMs: this.#clock.wallMs(),
      watchedSinceMs: this.#watchedSinceMs,
      remote: this.#sender.remote,
      queuePath: this.#sender.queue.path,
      state,
      verdict: verdict === undefined ? null : { ...verdict, words: describeVerdict(verdict) },
      condition: this.#sender.condition,
      outage: outage === undefined
        ? null
        : { ...outage, words: outageWords(outage, this.#clock.wallMs()) },
      health: this.health(),
      stats,
      sample: this.#samples.at(-1) ?? this.#sampleOf(stats),
      oldestPacket: this.#oldestPacket(stats),
      lastFailure: this.#lastFailure,
    };
  }

  health(): Health {
    const stats = this.#sender.stats();
    const { undeliverableMs, unstorableMs } = this.#measure(stats);
    const { condition: { headline, detail }, outage, queueFailure, state, verdict } = this.#sender;
    const closed = state === "closed";
    // A person has to see to it, and no time will mend it.
    const refused = verdict.kind === "session-refused" && state !== "idle";
    const ok = !closed && !refused && undeliverableMs <= this.#limitMs &&
      unstorableMs <= this.#limitMs && queueFailure === undefined &&
      clusterTrouble(stats.cluster)?.tone !== "bad";
    const lasting = outage === undefined
      ? ""
      : ` Outage ${outageWords(outage, this.#clock.wallMs())}.`;
    const unstored = unstorableMs === 0
      ? ""
      : `Nothing stored for ${seconds(unstorableMs)} (limit ${seconds(this.#limitMs)}). `;
    const condition = `${closed ? "" : unstored}${headline}. ${detail}${lasting}`;
    const reason = undeliverableMs === 0 || closed
      ? condition
      : `No byte acknowledged for ${seconds(undeliverableMs)} (limit ${seconds(this.#limitMs)}), ` +
        `packets queued: ${stats.queue.packets}. ${condition}`;
    return { ok, reason, undeliverableMs, unstorableMs, undeliverableLimitMs: this.#limitMs };
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
      const { atMs, state, verdict, words, failure } = status;
      const at = this.#indexOfSame(status);
      const same = this.#events[at]?.event;
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
        : { ...same, words, times: same.times + 1, lastAtMs: atMs };
      const kept = { event, outage: status.outage?.number, kind: kindOf(words) };
      if (same === undefined) this.#events.push(kept);
      else this.#events[at] = kept;
      if (this.#events.length > MAX_EVENTS) this.#events.shift();
      if (failure) this.#lastFailure = event;
      this.#tell({ kind: "event", event });
    }
  }

  /** Where the same is told already: in the same outage, or just now. Or -1. */
  #indexOfSame({ state, words, outage }: SenderStatus): number {
    const kind = kindOf(words);
    return this.#events.findLastIndex((kept, at) =>
      kept.kind === kind && kept.event.state === state &&
      (outage === undefined ? at === this.#events.length - 1 : kept.outage === outage.number)
    );
  }

  #sample(): void {
    this.#cancelTimer = this.#clock.setTimer(SAMPLE_INTERVAL_MS, () => this.#sample());
    const stats = this.#sender.stats();
    this.#measure(stats);
    this.#samples.push(this.#sampleOf(stats));
    if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
    this.#tell({ kind: "sample" });
  }

  #sampleOf(stats: SenderStats): Sample {
    const { rates, condition } = this.#sender;
    return {
      atMs: this.#clock.wallMs(),
      tone: condition.tone,
      queuedPackets: stats.queue.packets,
      sendQueueBytes: stats.path?.sendQueueBytes ?? null,
      rttMs: stats.path?.rttMs ?? null,
      storedPerSecond: rates.storedPacketsPerSecond,
      drainedPerSecond: rates.drainedPacketsPerSecond,
      ackedBytesPerSecond: rates.ackedBytesPerSecond,
    };
  }

  /**
   * Undeliverable: packets wait that are not acknowledged, and nothing is being acknowledged;
   * or, where something else confirms than the kernel, that are not confirmed, and nothing
   * leaves the queue.
   */
  #measure(stats: SenderStats): ReturnType<Progress["measure"]> {
    const byKernel = stats.confirmedBy === "kernel";
    return this.#progress.measure({
      reached: this.#reachedBy(stats),
      isWaiting: stats.queue.packets > (byKernel ? stats.heldPackets : 0),
      failsToStore: stats.queue.storeFailure !== undefined,
    });
  }

  #reachedBy({ confirmedBy, ackedBytes }: SenderStats): number {
    return confirmedBy === "kernel" ? ackedBytes : this.#sender.queue.removedThroughId;
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
