/**
 * Is the other end still there, and up to when did somebody vouch for it? A pure function from
 * readings to a verdict, by rules 3 to 5 of ARCHITECTURE.md (kernel_facts, sections 7 and 12).
 *
 * Silence is the smaller of
 *
 * - the kernel's `last_ack_recv`, which is large after an idle spell, and
 * - the time that we watched bytes being outstanding without any sign of the
 *   peer. One gap between two readings counts for at most `MAX_COUNTED_GAP_MS`: a
 *   process that was stopped, or whose loop was blocked, must not take its own pause
 *   for the peer's, nor a clock that jumps kill a connection.
 *
 * A window's right edge is bytes acknowledged + window. A program that does not read cannot move
 * it, while bytes_acked creeps up: the kernel's persist timer pushes out what little room is left.
 */

import { seconds } from "../base/errors.ts";
import { OWN_END_WORDS } from "../base/own_end.ts";
import { type LocalFault, type Logger, type SocketSample, TcpState } from "../base/ports.ts";
import { HOLD_GRAIN_MS } from "./hold.ts";

/** One gap between two readings counts for at most this much silence or stall. */
export const MAX_COUNTED_GAP_MS = 250;

function watchedOf(gapMs: number): number {
  return Math.min(Math.max(gapMs, 0), MAX_COUNTED_GAP_MS);
}

/** From this much silence on, and so often, routes and links are asked for the cause. */
export const EVIDENCE_AFTER_MS = 250;
/** While the peer is heard its link is noted this often, lest one that it has left is blamed. */
export const NOTE_LINK_INTERVAL_MS = 10_000;

/** The kernel's longest tick (CONFIG_HZ=100). */
const TICK_MS = 10;

/** Unanswered zero-window probes in a row that prove a dead path (kernel_facts, section 12.6). */
const DEAD_AFTER_WINDOW_PROBES = 3;

/** While packets are held, the peer is asked this often. */
const ASK_INTERVAL_MS = 1000;
/**
 * The time that so many questions take makes silence death, with what the kernel's timers may be
 * late. It does not count those that this host drops (kernel_facts, section 5.5).
 */
const DEAD_AFTER_QUESTIONS = 2;
const LATE_MS = 200;

/** The oldest unacknowledged byte is called slow from this age on. */
const SLOW_AFTER_MS = 1000;

/**
 * What the readings say about a connection:
 *
 * - `"healthy"`: acknowledgements arrive, or nothing is outstanding
 * - `"slow"`: the oldest byte has waited long, and silence is not yet long enough for a
 *   decision
 * - `"peer-stalled"`: the peer's TCP answers, but its program does not read: the window is
 *   closed
 * - `"path-dead"`: bytes are outstanding and nothing at all came back; `hint` is what the
 *   network reported
 * - `"local-fault"`: as `"path-dead"`, or about to be, and the cause is on this host
 * - `"no-response"`: the peer's TCP answers, but its program owes a response for too long:
 *   to `to`: `"answers"` is a packet whose answer confirms it
 * - `"peer-closed"`: the peer sent its FIN
 * - `"closes-early"`: the server has ended so many connections in a row, in order, before
 *   what it was sent could be confirmed: it refuses, or it is a proxy without a server
 * - `"wire-failed"`: reading or writing failed although the connection below it lives, as
 *   TLS may
 * - `"ended-here"`: this side has ended it, for a reason that is neither the server's nor the
 *   path's: the right to send has lapsed, the server has connected anew, a preferred server is
 *   back, a key is used up
 * - `"self-connected"`: the kernel connected the socket to itself: nobody listens at the
 *   remote's port
 * - `"session-refused"`: the server does not want the session; what it said is in `words`
 * - `"packet-refused"`: the server does not want packet `id`, and said `words`; where
 *   refused packets are tried again, or stop the sender
 * - `"wrong-answer"`: an answer came that can be about no packet: from then on nobody knows
 *   which packet an answer is about
 * - `"lookup-hangs"`: the remote's name could not be looked up in time
 * - `"removal-stuck"`: confirmed packets cannot be removed from the queue's file
 * - `"reset"`: the connection was reset; `code` is the errno's name
 * - `"timed-out"`: a timer of the kernel ended the connection
 *
 * @category Status
 */
export type Verdict =
  | { readonly kind: "healthy" }
  | { readonly kind: "slow"; readonly oldestUnackedMs: number; readonly silenceMs: number }
  | { readonly kind: "peer-stalled"; readonly stalledMs: number }
  | {
    readonly kind: "path-dead";
    readonly silenceMs: number;
    readonly hint: string | undefined;
  }
  | { readonly kind: "local-fault"; readonly fault: LocalFault; readonly silenceMs: number }
  | {
    readonly kind: "no-response";
    readonly unansweredMs: number;
    readonly to: "packets" | "heartbeat" | "answers";
  }
  | { readonly kind: "peer-closed" }
  | {
    readonly kind: "closes-early";
    readonly times: number;
    /** What confirms in the hold's place, so that no FIN can. */
    readonly confirmedBy?: "reader" | "answer";
  }
  | { readonly kind: "wire-failed"; readonly code: string; readonly words: string }
  | { readonly kind: "ended-here"; readonly code: string; readonly words: string }
  | { readonly kind: "self-connected" }
  | { readonly kind: "session-refused"; readonly words: string }
  | { readonly kind: "packet-refused"; readonly id: number; readonly words: string }
  | { readonly kind: "wrong-answer"; readonly words: string }
  | { readonly kind: "lookup-hangs"; readonly waitedMs: number }
  | { readonly kind: "removal-stuck"; readonly stuckMs: number }
  | { readonly kind: "reset"; readonly code: string }
  | { readonly kind: "timed-out"; readonly code: string };

/**
 * The name of a {@linkcode Verdict}.
 *
 * @category Status
 */
export type VerdictKind = Verdict["kind"];

export interface LivenessLimits {
  /** Silence that is death, unless twice the round-trip time is longer. */
  readonly stallTimeoutMs: number;
  /** How long a peer may keep its window closed. */
  readonly peerStallTimeoutMs: number;
  /** Silence of an idle connection that is death; undefined: keepalive is off. */
  readonly keepAlive:
    | { readonly timeoutMs: number; readonly probes: number }
    | undefined;
  /** How long bytes may stay without any byte of response; undefined: for ever. */
  readonly responseTimeoutMs?: number | undefined;
}

/** What is remembered between two readings. */
export interface LivenessMemory {
  readonly atMs: number;
  /** Watched time since the last sign of the peer while bytes were outstanding. */
  readonly watchedSilenceMs: number;
  /**
   * Time since the last sign of the peer while it was asked and nothing was outstanding. A gap
   * counts for at most one question, so that no pause of ours is death by itself.
   */
  readonly askedMs: number;
  /** Watched time of a closed window since its edge moved, or of unread bytes since any was read. */
  readonly stalledMs: number;
  /** When the last segment of the peer arrived, or earlier. */
  readonly aliveAtMs: number;
  /** When the peer was last seen to be reading. */
  readonly readingAtMs: number;
  /** The right edge, as far as it ever was. */
  readonly windowEdge: number;
  /** Whether the window has no room for a segment, be there something to send or not. */
  readonly windowShut: boolean;
  readonly ackedBytes: number;
  readonly windowLimitedUs: number;
  /** When a reading last found that it had grown. */
  readonly windowLimitedAtMs: number;
  readonly silenceMs: number;
  readonly outstanding: boolean;
  readonly windowClosed: boolean;
  /** Whether acknowledged packets are known to be unread. */
  readonly unread: boolean;
}

export interface Observation {
  readonly nowMs: number;
  readonly sample: SocketSample;
  /**
   * Bytes acknowledged. The kernel's figure counts our FIN, too: taken for a byte, its
   * acknowledgement would look like a window that moves, and so like a peer that reads.
   */
  readonly ackedBytes: number;
  /** Written and not acknowledged. */
  readonly unackedBytes: number;
  /** Age of the oldest of them. */
  readonly oldestUnackedMs: number;
  /** Whether bytes_acked grew since the last reading. */
  readonly progressed: boolean;
  /** See `Wire.askPeer`. */
  readonly asking: boolean;
  /** Acknowledged, where it is known what the program has read. */
  readonly unreadPackets?: number;
  /** Whether it has since the last reading. */
  readonly readOn?: boolean;
}

/** What else is known about the cause. */
export interface Evidence {
  /** The last error that ICMP or routing reported, by its errno's name. */
  readonly softError: string | undefined;
  readonly localFault: LocalFault | undefined;
}

export interface Judgement {
  readonly verdict: Verdict;
  readonly giveUp: boolean;
}

export function freshMemory(nowMs: number): LivenessMemory {
  return {
    atMs: nowMs,
    watchedSilenceMs: 0,
    askedMs: 0,
    stalledMs: 0,
    aliveAtMs: nowMs,
    readingAtMs: nowMs,
    windowEdge: 0,
    windowShut: false,
    ackedBytes: 0,
    windowLimitedUs: 0,
    windowLimitedAtMs: -Infinity,
    silenceMs: 0,
    outstanding: false,
    windowClosed: false,
    unread: false,
  };
}

export function observe(memory: LivenessMemory, observation: Observation): LivenessMemory {
  const { nowMs, sample, ackedBytes, unackedBytes, progressed } = observation;
  const gapMs = nowMs - memory.atMs;
  const countedMs = watchedOf(gapMs);
  // What was acknowledged came with a segment, but perhaps not since the reading before.
  const heard = sample.lastAckMs < gapMs + (progressed ? HOLD_GRAIN_MS : 0);
  const outstanding = unackedBytes > 0;
  const watchedSilenceMs = outstanding && memory.outstanding && !heard
    ? memory.watchedSilenceMs + countedMs
    : 0;
  const askedMs = observation.asking && !outstanding && !heard
    ? memory.askedMs + Math.min(Math.max(gapMs, 0), ASK_INTERVAL_MS)
    : 0;
  const windowLimitedAtMs = sample.windowLimitedUs > memory.windowLimitedUs
    ? nowMs
    : memory.windowLimitedAtMs;
  const windowClosed = isWindowClosed(sample, nowMs - windowLimitedAtMs);
  const windowShut = windowClosed || (sample.sendWindowBytes ?? Infinity) < sample.sendMssBytes;
  const edge = ackedBytes + (sample.sendWindowBytes ?? 0);
  // Without snd_wnd: what gets through a closed window is less than a segment.
  const edgeMoved = sample.sendWindowBytes === undefined
    ? ackedBytes - memory.ackedBytes >= sample.sendMssBytes
    : edge > memory.windowEdge;
  // What is held waits, and nothing more is sent that the window could stop.
  const shutOut = windowShut && !edgeMoved && observation.asking &&
    sample.state === TcpState.CLOSE_WAIT;
  const unread = shutOut || (observation.unreadPackets ?? 0) > 0;
  // Since the reading before: when in between it began nobody knows.
  const stalled = windowClosed
    ? !edgeMoved && (memory.windowClosed || memory.unread)
    : unread && memory.unread;
  return {
    atMs: nowMs,
    watchedSilenceMs,
    askedMs,
    stalledMs: stalled && observation.readOn !== true ? memory.stalledMs + countedMs : 0,
    aliveAtMs: Math.max(memory.aliveAtMs, nowMs - sample.lastAckMs),
    readingAtMs: windowShut && !edgeMoved ? memory.readingAtMs : nowMs,
    windowEdge: Math.max(memory.windowEdge, edge),
    windowShut,
    ackedBytes,
    windowLimitedUs: sample.windowLimitedUs,
    windowLimitedAtMs,
    silenceMs: Math.min(sample.lastAckMs, watchedSilenceMs),
    outstanding,
    windowClosed,
    unread,
  };
}

/** For how long the peer has owed a sign of life. */
export function owedForMs(
  { outstanding, silenceMs, askedMs }: LivenessMemory,
  { probes, lastAckMs }: SocketSample,
): number {
  if (!outstanding && probes > 0) return lastAckMs;
  // The kernel asks an interval after it was told to.
  return Math.max(silenceMs, askedMs - ASK_INTERVAL_MS);
}

/** Up to when the peer is known to have been alive and reading. */
export function vouchedUntilMs({ aliveAtMs, readingAtMs }: LivenessMemory): number {
  return Math.min(aliveAtMs, readingAtMs);
}

/** Whether a peer reads again that had stopped for `holdMs` or longer: what it has is held anew. */
export function resumedReading(
  before: LivenessMemory,
  after: LivenessMemory,
  holdMs: number,
): boolean {
  return before.windowShut && after.readingAtMs > before.readingAtMs &&
    after.readingAtMs - before.readingAtMs > holdMs;
}

/** Judges a connection that is not in state CLOSE. */
export function judge(
  memory: LivenessMemory,
  observation: Observation,
  evidence: Evidence,
  limits: LivenessLimits,
): Judgement {
  const { sample, unackedBytes, oldestUnackedMs } = observation;
  const { probes, lastAckMs } = sample;
  const rttMs = sample.rttUs / 1000;
  const { silenceMs, stalledMs, windowClosed } = memory;
  const silenceLimitMs = Math.max(limits.stallTimeoutMs, 2 * rttMs);

  // An answered probe makes last_ack_recv fall back and resets `probes`.
  const isProved = !windowClosed || sample.unackedSegments > 0 ||
    probes >= DEAD_AFTER_WINDOW_PROBES;
  if (isProved && silenceMs > silenceLimitMs) return silent(silenceMs, evidence);
  if (silenceMs > EVIDENCE_AFTER_MS && evidence.localFault !== undefined) {
    // Named early, given up no earlier than any other silence: links flap.
    return goesOn({ kind: "local-fault", fault: evidence.localFault, silenceMs });
  }
  // A stall is told where its kernel has answered meanwhile.
  const answers = stalledMs - silenceMs > SLOW_AFTER_MS;
  const isMute = !answers && probes > 1 && stalledMs >= SLOW_AFTER_MS;
  if (windowClosed && !isMute) return stalled(memory, limits);
  if (unackedBytes === 0) {
    const { keepAlive } = limits;
    const answerMs = rttMs + Math.max(rttMs, LATE_MS);
    const questionsMs = DEAD_AFTER_QUESTIONS * ASK_INTERVAL_MS + answerMs;
    const isAsked = Math.min(lastAckMs, memory.askedMs) > Math.max(silenceLimitMs, questionsMs);
    const isKept = keepAlive && probes >= keepAlive.probes && lastAckMs > keepAlive.timeoutMs;
    if (isAsked || isKept) return silent(lastAckMs, evidence);
  }
  // What tells of reading comes over the same path.
  const unread = memory.unread && answers ? stalled(memory, limits) : undefined;
  const peerClosed = sample.state === TcpState.CLOSE_WAIT;
  // Who has closed may go on reading; for ever nobody waits for that.
  if (unread !== undefined && (unread.giveUp || !peerClosed)) return unread;
  if (peerClosed) return goesOn({ kind: "peer-closed" });
  if (unackedBytes > 0 && oldestUnackedMs > SLOW_AFTER_MS) {
    return goesOn({ kind: "slow", oldestUnackedMs, silenceMs });
  }
  return goesOn({ kind: "healthy" });
}

/** The verdict on state CLOSE, from the errno that ended it. */
export function judgeDeath(code: string, silenceMs: number): Verdict {
  switch (code) {
    case "ETIMEDOUT":
      return { kind: "timed-out", code };
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EHOSTDOWN":
    case "ENETDOWN":
    case "EACCES":
    case "ENOPROTOOPT":
    case "EPROTO":
    case "ECONNREFUSED": // ICMP port unreachable: an RST would read ECONNRESET
      return { kind: "path-dead", silenceMs, hint: code };
    default:
      return { kind: "reset", code };
  }
}

const LEVELS: Partial<Record<VerdictKind, keyof Logger>> = {
  "peer-stalled": "warn",
  "local-fault": "warn",
  "closes-early": "warn",
  "removal-stuck": "error",
};

/** How loudly a verdict is said that a connection goes on with. */
export function levelOf(verdict: Verdict): keyof Logger {
  return isMomentary(verdict) ? "debug" : LEVELS[verdict.kind] ?? "debug";
}

/** A window that has just closed: a large packet closes one, and it opens again. */
export function isMomentary(verdict: Verdict): boolean {
  return verdict.kind === "peer-stalled" && verdict.stalledMs < SLOW_AFTER_MS;
}

/** Whether a verdict is news after another one: another kind, or no moment any more. */
export function isNews(before: Verdict, verdict: Verdict): boolean {
  return verdict.kind !== before.kind || (isMomentary(before) && !isMomentary(verdict));
}

const NO_RESPONSE = {
  answers: "the server's TCP has acknowledged a packet, its program has not answered",
  heartbeat: "the server has not answered the heartbeat",
  packets: "not a byte from the server",
} as const;

/**
 * Says a verdict in words, for a person.
 *
 * @category Status
 */
export function describeVerdict(verdict: Verdict): string {
  switch (verdict.kind) {
    case "healthy":
      return "healthy";
    case "slow":
      return `slow: the oldest unacknowledged byte has waited ${seconds(verdict.oldestUnackedMs)}`;
    case "peer-stalled":
      return `peer stalled: its kernel answers, its program has not read for ${
        seconds(verdict.stalledMs)
      }`;
    case "path-dead":
      return `path dead: not a sign of the peer for ${seconds(verdict.silenceMs)}` +
        (verdict.hint === undefined ? "" : ` (the network reported ${verdict.hint})`);
    case "local-fault":
      return `local fault: ${verdict.fault.words}`;
    case "no-response":
      return `no response: ${NO_RESPONSE[verdict.to]} for ${seconds(verdict.unansweredMs)}`;
    case "peer-closed":
      return "peer closed the connection";
    case "closes-early":
      return `the server has closed ${verdict.times} connections in a row with packets that were ` +
        `not confirmed yet: it refuses (a login, another protocol), it is a proxy without its ` +
        `server, or it closes soon` +
        (verdict.confirmedBy === undefined
          ? '. One that is known to close once it has all: onPeerFin (--on-peer-fin) "confirm"'
          : "");
    case "wire-failed":
      return `the connection failed: ${verdict.words}`;
    case "ended-here":
      return `ended by this side: ${verdict.words}`;
    case "self-connected":
      return "connected to itself: nobody listens at the remote's port on this host";
    case "session-refused":
      return `session refused: ${verdict.words}`;
    case "packet-refused":
      return `the server refused packet ${verdict.id}: ${verdict.words}`;
    case "wrong-answer":
      return `wrong answer: ${verdict.words}`;
    case "lookup-hangs":
      return `the look-up of the remote's name has no answer after ${seconds(verdict.waitedMs)}`;
    case "removal-stuck":
      return `confirmed packets could not be removed from the queue for ${
        seconds(verdict.stuckMs)
      }`;
    case "reset":
      return `reset by the peer or the network (${verdict.code})`;
    case "timed-out":
      return `timed out by the kernel (${verdict.code})`;
    default:
      throw new TypeError(`Unknown verdict ${JSON.stringify(verdict satisfies never)}`);
  }
}

function goesOn(verdict: Verdict): Judgement {
  return { verdict, giveUp: false };
}

function silent(silenceMs: number, { softError, localFault }: Evidence): Judgement {
  const verdict: Verdict = localFault === undefined
    ? { kind: "path-dead", silenceMs, hint: softError }
    : { kind: "local-fault", fault: localFault, silenceMs };
  return { verdict, giveUp: true };
}

function stalled({ stalledMs }: LivenessMemory, limits: LivenessLimits): Judgement {
  const giveUp = stalledMs > limits.peerStallTimeoutMs;
  return { verdict: { kind: "peer-stalled", stalledMs }, giveUp };
}

/**
 * kernel_facts, section 4: nothing in flight, everything queued, and a window too small for a
 * segment; or none for what is in flight, where a peer takes back what it has offered. Without
 * snd_wnd (before Linux 5.4) the time limited by the window grows instead, by whole ticks: of two
 * readings within one the second says nothing.
 */
function isWindowClosed(sample: SocketSample, sinceLimitedMs: number): boolean {
  const { notSentBytes, sendWindowBytes } = sample;
  if (sample.unackedSegments > 0) return sendWindowBytes === 0;
  if (notSentBytes === 0) return false;
  return sendWindowBytes === undefined
    ? sinceLimitedMs < TICK_MS
    : sendWindowBytes < sample.sendMssBytes;
}

/**
 * The verdict on an end that this side has decided; undefined: it is none.
 *
 * @param words Those of the wire, where it has some.
 */
export function ownEnd(code: string, words: string | undefined): Verdict | undefined {
  const usual = OWN_END_WORDS.get(code);
  return usual === undefined ? undefined : { kind: "ended-here", code, words: words ?? usual };
}

/**
 * A clock that stands still while nobody looks: one gap between two looks counts for at most
 * `MAX_COUNTED_GAP_MS`.
 */
export class WatchedTime {
  #clockMs: number;
  #watchedMs = 0;

  constructor(clockMs: number) {
    this.#clockMs = clockMs;
  }

  /** Somebody looks. Returns now, in watched time. */
  look(clockMs: number): number {
    this.#watchedMs = this.at(clockMs);
    this.#clockMs = clockMs;
    return this.#watchedMs;
  }

  /** A moment since the last look, in watched time. */
  at(clockMs: number): number {
    return this.#watchedMs + watchedOf(clockMs - this.#clockMs);
  }
}
