/**
 * Tells of outages, and of everything else that repeats itself, so that a person reads what is
 * new and a disk is not filled with what is not.
 *
 * An outage has a line at its begin, at its end, now and then between, and for a connection that
 * ends in another way than those before it, which is another fault.
 *
 * What ends it is not a connection, for a server that accepts and drops would begin one outage
 * a connection: it is a packet that was confirmed since the last failure, or that nothing waits
 * any more. One that comes back soon has to stay away for longer each time.
 */

import type { Clock } from "../base/ports.ts";
import type { QueueStats } from "../base/queue_stats.ts";
import { describeVerdict, isMomentary, isNews, type VerdictKind } from "../delivery/liveness.ts";
import type { DeliveryStatus, Outage, ToldStatus } from "../delivery/status.ts";
import { isTrouble } from "./verdict_meaning.ts";

/** Nothing tells that a packet was confirmed. */
const LOOK_MS = 1000;
/** The time to the first line between begin and end; it doubles up to an hour. */
const FIRST_REMINDER_MS = 60_000;
const LAST_REMINDER_MS = 3_600_000;
/** An outage that begins this soon after the last one's end is the same one, as people see it. */
const SAME_AGAIN_MS = 600_000;
const FIRST_CALM_MS = 1000;
const LAST_CALM_MS = 300_000;
/** The same for a line that repeats itself. */
const FIRST_REPEAT_MS = 10_000;
const LAST_REPEAT_MS = 3_600_000;
/** Kinds of lines that are told apart; beyond it the oldest is forgotten, and said anew. */
const MAX_KINDS = 64;

export interface OutageReporterOptions {
  readonly clock: Clock;
  readonly queue: { stats(): Pick<QueueStats, "packets"> };
  /**
   * How many packets have got through; only grows. Not what has left the queue: that may have
   * expired, been given up, or been dropped for want of room.
   */
  readonly confirmedPackets: () => number;
  /** Told everything, at the level at which it is to be told. */
  readonly tell: (status: ToldStatus) => void;
}

/** Counters of an outage under way; times are monotonic. */
interface Ongoing {
  readonly number: number;
  readonly sinceWallMs: number;
  readonly sinceMs: number;
  /** A stall only until something fails. */
  cause: string;
  /** How long it must be calm before it is over. */
  readonly calmMs: number;
  /** In which ways connections have ended or stalled. */
  readonly ways: Set<VerdictKind>;
  latest: string;
  failedAttempts: number;
  brokenConnections: number;
  remindAtMs: number;
  confirmedAtFailure: number;
  /** Whether the last connection did: for a while a new one has confirmed nothing. */
  lastConfirmed: boolean;
  /** Since when there is a connection without a fault. */
  upSinceMs: number | undefined;
}

type Failure = "attempt" | "connection" | "stall";

export class OutageReporter {
  readonly #options: OutageReporterOptions;
  readonly #repeats: Repeats;
  #latest: DeliveryStatus | undefined;
  #ongoing: Ongoing | undefined;
  #outages = 0;
  #endedAtMs = -Infinity;
  #calmMs = 0;
  #cancelLook: () => void = () => {};

  constructor(options: OutageReporterOptions) {
    this.#options = options;
    this.#repeats = new Repeats(options.clock);
  }

  /** The present outage; undefined also when it is over, and that is not told yet. */
  get outage(): Outage | undefined {
    if (this.#ongoing === undefined || this.#isOver(this.#ongoing)) return undefined;
    const { number, sinceWallMs: sinceMs, cause, latest, ...of } = this.#ongoing;
    const { failedAttempts, brokenConnections, upSinceMs, lastConfirmed } = of;
    const confirms = upSinceMs !== undefined && lastConfirmed || this.#getsThrough(this.#ongoing);
    return { number, sinceMs, cause, latest, failedAttempts, brokenConnections, confirms };
  }

  /** Takes the next status; tells it, and perhaps of an outage's end. */
  take(status: DeliveryStatus): void {
    const failure = failureOf(status, this.#latest);
    this.#latest = status;
    if (failure !== undefined) this.#fail(failure, status);
    else {
      const ongoing = this.#ongoing;
      if (ongoing !== undefined) ongoing.upSinceMs = this.#upSince(ongoing, status);
      this.#say(status, ongoing === undefined ? status.level : muted(status), false);
      this.#look();
    }
  }

  /** Tells of something beside delivery, for example of packets that were dropped. */
  mention(status: DeliveryStatus): void {
    this.#say(status, status.level, false);
  }

  stop(): void {
    this.#cancelLook();
  }

  #fail(failure: Failure, status: DeliveryStatus): void {
    // With nothing to send, a connection that breaks is no outage.
    if (this.#ongoing === undefined && status.state === "idle") {
      return this.#say(status, status.level, true);
    }
    const begins = this.#ongoing === undefined;
    const { kind } = status.verdict;
    const words = reasonOf(failure, status);
    const ongoing = this.#ongoing ??= this.#begin(words);
    if (failure !== "stall" && countsOf(ongoing) === "") ongoing.cause = words;
    if (failure === "attempt") ongoing.failedAttempts++;
    if (failure === "connection") ongoing.brokenConnections++;
    ongoing.latest = words;
    ongoing.upSinceMs = undefined;
    const confirmedPackets = this.#options.confirmedPackets();
    let isNews = begins;
    if (failure !== "attempt") {
      isNews ||= !ongoing.ways.has(kind);
      ongoing.ways.add(kind);
      ongoing.lastConfirmed = confirmedPackets > ongoing.confirmedAtFailure;
    }
    ongoing.confirmedAtFailure = confirmedPackets;
    this.#tell({ ...status, level: isNews ? "warn" : "debug" }, true);
    if (status.state === "idle") this.#look();
  }

  #begin(words: string): Ongoing {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    const soon = nowMs - this.#endedAtMs < Math.max(SAME_AGAIN_MS, 4 * this.#calmMs);
    this.#calmMs = soon ? Math.min(LAST_CALM_MS, Math.max(FIRST_CALM_MS, 2 * this.#calmMs)) : 0;
    this.#watch();
    return {
      number: ++this.#outages,
      sinceWallMs: clock.wallMs(),
      sinceMs: nowMs,
      cause: words,
      calmMs: this.#calmMs,
      ways: new Set(),
      latest: words,
      failedAttempts: 0,
      brokenConnections: 0,
      remindAtMs: nowMs + FIRST_REMINDER_MS,
      confirmedAtFailure: this.#options.confirmedPackets(),
      lastConfirmed: false,
      upSinceMs: undefined,
    };
  }

  #upSince({ upSinceMs }: Ongoing, { state, verdict }: DeliveryStatus): number | undefined {
    // With everything confirmed a connection may end in order, and no other is needed.
    if (state === "idle") return upSinceMs;
    if (!isUp(state) || isTrouble(verdict.kind)) return undefined;
    return upSinceMs ?? this.#options.clock.nowMs();
  }

  #watch(): void {
    this.#cancelLook();
    this.#cancelLook = this.#options.clock.setTimer(LOOK_MS, () => {
      if (this.#ongoing === undefined) return;
      this.#watch();
      this.#look();
    });
  }

  /** Whether it is over, or worth another line. */
  #look(): void {
    const ongoing = this.#ongoing;
    const status = this.#latest;
    if (ongoing === undefined || status === undefined) return;
    const nowMs = this.#options.clock.nowMs();
    if (this.#isOver(ongoing)) {
      this.#ongoing = undefined;
      this.#endedAtMs = nowMs;
      this.#cancelLook();
      // The end has its own line.
      if (status.state === "closed") return;
      const span = spanWords((ongoing.upSinceMs ?? nowMs) - ongoing.sinceMs);
      const over = ongoing.upSinceMs !== undefined && this.#hasConfirmed(ongoing)
        ? "packets get through again"
        : "nothing is left to send";
      const words = `${over}, after ${span}${countsOf(ongoing)}`;
      return this.#tell({ ...status, level: "info", words, error: undefined }, false);
    }
    if (nowMs < ongoing.remindAtMs) return;
    // Each pause is twice as long as the one before.
    const pastMs = nowMs - ongoing.sinceMs;
    ongoing.remindAtMs = nowMs + Math.min(LAST_REMINDER_MS, pastMs + FIRST_REMINDER_MS);
    const how = this.outage?.confirms ? "still unsteady" : "still not delivering";
    const words = `${how} after ${spanWords(pastMs)}${countsOf(ongoing)}; ` +
      `last: ${ongoing.latest}`;
    this.#tell({ ...status, level: "warn", words, error: undefined }, false);
  }

  #isOver(ongoing: Ongoing): boolean {
    const state = this.#latest?.state;
    if (state === "idle" || state === "closed") return true;
    const { upSinceMs, calmMs } = ongoing;
    return upSinceMs !== undefined && this.#options.clock.nowMs() - upSinceMs >= calmMs &&
      this.#getsThrough(ongoing);
  }

  #getsThrough(ongoing: Ongoing): boolean {
    if (ongoing.upSinceMs === undefined) return false;
    return this.#hasConfirmed(ongoing) || this.#options.queue.stats().packets === 0;
  }

  #hasConfirmed({ confirmedAtFailure }: Ongoing): boolean {
    return this.#options.confirmedPackets() > confirmedAtFailure;
  }

  /** Tells it in full once, and now and then with a count when it repeats itself. */
  #say(status: DeliveryStatus, level: DeliveryStatus["level"], failure: boolean): void {
    if (level === "debug") return this.#tell({ ...status, level }, failure);
    const more = this.#repeats.take(`${level} ${kindOf(status.words)}`);
    if (more === undefined) return this.#tell({ ...status, level: "debug" }, failure);
    const words = more === 0 ? status.words : `${status.words} (and ${more} times more like this)`;
    this.#tell({ ...status, level, words }, failure);
  }

  #tell(status: DeliveryStatus, failure: boolean): void {
    failure ||= status.error !== undefined;
    this.#options.tell({ ...status, failure, outage: this.outage });
  }
}

/** What repeats itself is said at growing intervals. */
class Repeats {
  readonly #clock: Clock;
  readonly #kinds = new Map<string, { saidAtMs: number; intervalMs: number; unsaid: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @returns How often it happened unsaid before; undefined: not to be said now. */
  take(kind: string): number | undefined {
    const nowMs = this.#clock.nowMs();
    const known = this.#kinds.get(kind);
    const quietMs = nowMs - (known?.saidAtMs ?? -Infinity);
    if (known !== undefined && quietMs < known.intervalMs) {
      known.unsaid++;
      return undefined;
    }
    // Nothing came meanwhile: it does not repeat itself, it happened again.
    const again = known !== undefined && known.unsaid > 0;
    const intervalMs = again ? Math.min(LAST_REPEAT_MS, 2 * known.intervalMs) : FIRST_REPEAT_MS;
    this.#kinds.delete(kind);
    this.#kinds.set(kind, { saidAtMs: nowMs, intervalMs, unsaid: 0 });
    if (this.#kinds.size > MAX_KINDS) {
      const [oldest = kind] = this.#kinds.keys();
      this.#kinds.delete(oldest);
    }
    return known?.unsaid ?? 0;
  }
}

/** Words without their numbers: those that differ in nothing else say the same. */
export function kindOf(words: string): string {
  return words.replaceAll(/\d+(?:[.,]\d+)*/g, "#");
}

/** `"1.2 s"`, `"42 s"`, `"3 min"`, `"2 h 5 min"`, `"3 d 2 h"`. */
export function spanWords(ms: number): string {
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor(s % 86_400 / 3600)} h`;
}

/** `"for 42 s: 40 attempts failed, 1 connection broke"` */
export function outageWords(outage: Outage, wallMs: number): string {
  return `for ${spanWords(Math.max(0, wallMs - outage.sinceMs))}${countsOf(outage)}`;
}

function countsOf(
  { failedAttempts, brokenConnections }: Pick<Outage, "failedAttempts" | "brokenConnections">,
): string {
  const several = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const counts = [];
  if (failedAttempts > 0) counts.push(`${several(failedAttempts, "attempt")} failed`);
  if (brokenConnections > 0) counts.push(`${several(brokenConnections, "connection")} broke`);
  return counts.length === 0 ? "" : `: ${counts.join(", ")}`;
}

/** What went wrong between two statuses. */
function failureOf(
  { state, verdict, level }: DeliveryStatus,
  before: DeliveryStatus | undefined,
): Failure | undefined {
  if (before?.state === "connecting" && state === "backing-off") return "attempt";
  if (before === undefined || !isUp(before.state)) return undefined;
  if (!isUp(state)) return level === "warn" ? "connection" : undefined;
  return isTrouble(verdict.kind) && !isMomentary(verdict) && isNews(before.verdict, verdict)
    ? "stall"
    : undefined;
}

function reasonOf(failure: Failure, { verdict, error, words }: DeliveryStatus): string {
  if (failure === "attempt") return error?.message ?? words;
  return isTrouble(verdict.kind) ? describeVerdict(verdict) : words;
}

/** In an outage the course of attempts and connections is no news; faults of the disk are. */
function muted({ level, error, state }: DeliveryStatus): DeliveryStatus["level"] {
  return error !== undefined || state === "closed" ? level : "debug";
}

function isUp(state: DeliveryStatus["state"]): boolean {
  return state === "connected" || state === "ending";
}
