/**
 * One connection from its first packet to its end: turns kernel readings into drained packets
 * and a verdict.
 *
 * Invariants, beside ARCHITECTURE.md, The rules it rests on:
 * 1. Only `acked = min(bytes_acked − base, written)` drains a byte. Base is read when nothing is
 *    under way: a login that is not acknowledged yet must not confirm a packet.
 * 2. A reading that fails, or that disagrees with Send-Q, confirms nothing and
 *    ends the connection.
 * 3. No end confirms anything. From the peer's FIN on nobody vouches for its program any more,
 *    unless `onPeerFin` says that such a server goes on reading or is known to end so.
 * 4. A connection with unacknowledged bytes is aborted, never closed. So is one with packets
 *    that are not read or answered, where that confirms: they come again elsewhere, and an
 *    orderly end would say that the stream was whole. Where the hold confirms, what was
 *    confirmed may still lie unread, and a reset might take it: there an acknowledged
 *    connection is closed.
 * 5. A read or a write that fails is the end, also while TCP lives: the layer
 *    above it (TLS, a proxy's protocol) has failed.
 * 6. Where `Answers` or `Reads` confirm, what had been answered or read when the
 *    connection ended counts.
 */

import { KernelCallError, WireError } from "../base/errors.ts";
import {
  type Clock,
  type LocalFault,
  type SocketSample,
  TcpState,
  type Wire,
  type WireOutcome,
} from "../base/ports.ts";
import type { AnswerPlan } from "../session/answers.ts";
import type { SessionPlan } from "../session/session.ts";
import type { OutgoingBatch } from "../session/transform.ts";
import { WireReader } from "../session/wire_reader.ts";
import { Answers } from "./answers.ts";
import type { Confirmation } from "./confirmation.ts";
import { assertQuiet, assertTellsReads, CrossCheck } from "./cross_check.ts";
import { Heartbeats } from "./heartbeats.ts";
import { heldSinceMs, Hold } from "./hold.ts";
import { Ledger } from "./ledger.ts";
import {
  EVIDENCE_AFTER_MS,
  freshMemory,
  judge,
  judgeDeath,
  type LivenessLimits,
  type LivenessMemory,
  NOTE_LINK_INTERVAL_MS,
  observe,
  owedForMs,
  ownEnd,
  resumedReading,
  type Verdict,
  vouchedUntilMs,
  WatchedTime,
} from "./liveness.ts";
import { lookInMs } from "./looks.ts";
import { Outgoing } from "./outgoing.ts";
import { Debt, Owed } from "./owed.ts";
import { Reads } from "./reads.ts";
import type { PathStats } from "./status.ts";

/** How long a dead connection's pending read and write may take to tell their errors. */
const ERRNO_WAIT_MS = 1000;
/** With nothing under way, a reading is as good as a new one for so long. */
const READING_GOOD_MS = 5;
const MIN_POLL_MS = 1;
/** Names of failures that TCP itself has, or that have none. */
const OF_THE_KERNEL = /^(E[A-Z0-9]+|UNKNOWN)$/;

export interface ConnectionLimits extends LivenessLimits {
  readonly holdMs: number;
  /** See `SenderOptions.onPeerFin`. */
  readonly onPeerFin: "reconnect" | "keep-sending" | "confirm";
  readonly session?: SessionPlan | undefined;
  /** What its answers to packets mean; undefined: none confirms. */
  readonly answers?: AnswerPlan | undefined;
  /** Whether it confirms a packet that the peer's program has read it. */
  readonly reads?: boolean;
}

export interface ConnectionOptions {
  /** Nothing is under way on it: its session is open. */
  readonly wire: Wire;
  /** Who has read from it. */
  readonly reader?: WireReader;
  readonly clock: Clock;
  readonly limits: ConnectionLimits;
  /** The id before the first packet that will be sent here. */
  readonly afterId: number;
  readonly lastId: () => number;
  /** Called when a write or the reading has failed, or the peer's FIN is here: time to poll. */
  readonly onEnd: () => void;
  /**
   * Called when the kernel has begun to take bytes, when it has taken all, and when an
   * answer may have come: poll soon.
   */
  readonly onWritten: () => void;
  /** Takes what the peer sent; the chunk is the callee's. */
  readonly onReceived: (chunk: Uint8Array) => void;
}

export interface ConnectionReading {
  readonly verdict: Verdict;
  /** More bytes are acknowledged. */
  readonly progressed: boolean;
  /** The peer's FIN is here. */
  readonly peerClosed: boolean;
  /** Not dead. */
  readonly alive: boolean;
  /** It is to be disposed of. */
  readonly ended: boolean;
  /** In how many milliseconds to poll again at the latest. */
  readonly pollInMs: number;
}

/** What confirms: see `SenderOptions.confirm`. */
export function confirmedBy(
  { answers, reads }: Pick<ConnectionLimits, "answers" | "reads">,
): "kernel" | "reader" | "answer" {
  return answers ? "answer" : reads ? "reader" : "kernel";
}

/** One established connection. */
export class Connection {
  readonly #wire: Wire;
  readonly #reader: WireReader;
  readonly #clock: Clock;
  readonly #limits: ConnectionLimits;
  readonly #options: ConnectionOptions;
  readonly #ledger: Ledger;
  readonly #outgoing: Outgoing;
  readonly #heartbeats: Heartbeats | undefined;
  readonly #watched: WatchedTime;
  readonly #response: Debt;
  readonly #owed: Owed;
  readonly #baseBytes: number;
  /** One of the three below. */
  readonly confirmation: Confirmation;
  /** Undefined: answers do not confirm. */
  readonly answers: Answers | undefined;
  readonly #reads: Reads | undefined;
  readonly #hold: Hold | undefined;

  #reading = true;
  #peerClosed = false;
  /** Up to when the peer was vouched for before its FIN came, where the FIN ends that. */
  #vouchedBeforeFinMs: number | undefined;
  #asking = false;
  /** The kernel refused a call outside of a poll: to ask the peer, or to send our FIN. */
  #refusal: KernelCallError | undefined;
  readonly #crossCheck = new CrossCheck();
  /** The errno that somebody was told: read, write or SO_ERROR, whoever came first. */
  #failure: string | undefined;
  /** The same in words, where a read or a write has failed. */
  #failureWords: string | undefined;

  #verdict: Verdict = { kind: "healthy" };
  #memory: LivenessMemory;
  #sample: SocketSample;
  #softError: string | undefined;
  #localFault: LocalFault | undefined;
  #evidenceAtMs = -Infinity;
  #diedAtMs: number | undefined;
  /** The last reading, while nothing is wrong and nobody has said anything since. */
  #good: { readonly reading: ConnectionReading; readonly atMs: number } | undefined;

  /**
   * @throws {KernelCallError} The base could not be read; the wire is unusable.
   * @throws {WireError} Bytes are under way on it that nobody here has written, or what the
   *   peer's program has read is to confirm, and the wire cannot tell.
   */
  constructor(options: ConnectionOptions) {
    const { wire, clock, limits, onEnd, onWritten, lastId } = options;
    this.#options = options;
    this.#wire = wire;
    this.#reader = options.reader ?? new WireReader(wire);
    this.#clock = clock;
    this.#limits = limits;
    this.#ledger = new Ledger(options.afterId);
    this.#memory = freshMemory(clock.nowMs());
    // What stands here is our SYN (section 1), and what the session has written.
    this.#sample = wire.sample();
    assertQuiet(this.#sample);
    this.#baseBytes = this.#sample.bytesAcked;
    if (limits.reads) assertTellsReads(this.#sample);
    const { heartbeat, close } = limits.session ?? {};
    this.#heartbeats = heartbeat && new Heartbeats(heartbeat);
    this.answers = limits.answers && new Answers(limits.answers, wire.remoteAddress);
    this.#reads = limits.reads ? new Reads() : undefined;
    this.confirmation = this.answers ?? this.#reads ?? (this.#hold = new Hold(limits.holdMs));
    this.#watched = new WatchedTime(clock.nowMs());
    this.#response = new Debt(limits.responseTimeoutMs ?? Infinity);
    this.#outgoing = new Outgoing({
      ...{ wire, clock, onWritten, lastId },
      ...{ ledger: this.#ledger, heartbeats: this.#heartbeats, watched: this.#watched },
      response: this.#response,
      goodbye: close ?? new Uint8Array(),
      onFailed: (error) => {
        this.#failed(error);
        onEnd();
      },
      sendFin: () => this.#unlessRefused(() => wire.shutdownWrite()),
    });
    this.#owed = new Owed([
      { to: "answers", debt: this.answers?.debt },
      { to: "heartbeat", debt: this.#heartbeats?.debt },
      { to: "packets", debt: this.#response },
    ]);
    void this.#listen();
  }

  /** Assigned and not acknowledged. */
  get inFlightBytes(): number {
    return this.#ledger.inFlightBytes;
  }

  /** Whether the kernel has taken bytes of a packet that is not drained. */
  get carriesPackets(): boolean {
    return this.#ledger.carriesPackets;
  }

  /** Assigned and not drained. */
  get inFlightPackets(): number {
    return this.#ledger.inFlightPackets;
  }

  /** Every packet up to and including this id is drained. */
  get drainedThroughId(): number {
    return this.#ledger.drainedThroughId;
  }

  get drainedPackets(): number {
    return this.#ledger.drainedPackets;
  }

  /** Assigned and not confirmed. */
  get unconfirmedPackets(): number {
    return this.inFlightPackets + this.confirmation.heldPackets;
  }

  /** Not drained, or where an acknowledgement confirms nothing, not confirmed. */
  get openPackets(): number {
    return Math.max(this.inFlightPackets, this.confirmation.openPackets);
  }

  get ackedBytes(): number {
    return this.#ledger.ackedBytes;
  }

  get path(): PathStats {
    const sample = this.#sample;
    return {
      localAddress: this.#wire.localAddress,
      remoteAddress: this.#wire.remoteAddress,
      rttMs: sample.rttUs / 1000,
      sendQueueBytes: sample.sendQueueBytes,
      notSentBytes: sample.notSentBytes,
      sendWindowBytes: sample.sendWindowBytes,
      retransmittedSegments: sample.totalRetransmits,
      silenceMs: this.#memory.silenceMs,
      ...(this.#wire.tls === undefined ? {} : { tls: this.#wire.tls }),
    };
  }

  /**
   * Whether the server owes the answer to a heartbeat, and packets have to wait for it: theirs
   * could be taken for it, and it for theirs.
   */
  get awaitsHeartbeat(): boolean {
    return this.answers !== undefined && this.#heartbeats?.awaitsAnswer === true;
  }

  send(batches: readonly OutgoingBatch[]): void {
    this.answers?.assigned(batches, this.#ledger.assignedBytes);
    this.#reads?.assigned(batches, this.#ledger.assignedBytes);
    this.#outgoing.send(batches);
  }

  /** While packets are held and nothing is under way, the peer's kernel is asked for a sign of life. */
  #askPeer(asking: boolean): void {
    if (asking === this.#asking || this.#sample.state === TcpState.CLOSE) return;
    this.#asking = asking;
    this.#wire.askPeer(asking);
  }

  /**
   * Sends a heartbeat if it is due: after packets had their turn, for each would wait for
   * the other's acknowledgement. Says in how many milliseconds the next one may be.
   */
  beat(): number {
    // One question at a time: nobody could tell whose answer comes.
    if (this.answers !== undefined && this.answers.openPackets > 0) return Infinity;
    return this.#outgoing.beat(this.#clock.nowMs());
  }

  /** See `Outgoing.finish`; where not everything is confirmed, answers still count. */
  finish(inOrder: boolean): void {
    if (inOrder) this.answers?.finish();
    this.#outgoing.finish(inOrder);
  }

  /**
   * Drains what it can, and says how things are.
   *
   * @param isFresh Whether it has to be a new reading: each costs as much as a small write, and
   *   many steps have to do with the queue alone.
   */
  poll(isFresh = true): ConnectionReading {
    const nowMs = this.#clock.nowMs();
    const known = isFresh ? undefined : this.#known(nowMs);
    if (known !== undefined) return known;
    try {
      const reading = this.#poll(nowMs);
      const isGood = reading.alive && reading.verdict.kind === "healthy" && !reading.peerClosed;
      this.#good = isGood ? { reading, atMs: nowMs } : undefined;
      return reading;
    } catch (error) {
      if (!(error instanceof KernelCallError)) throw error;
      const fault = { kind: "unreadable", device: undefined, words: error.message } as const;
      const { silenceMs } = this.#memory;
      return this.#over({ kind: "local-fault", fault, silenceMs }, false);
    }
  }

  /** The last reading once more, where a new one could say nothing else. */
  #known(nowMs: number): ConnectionReading | undefined {
    if (this.#good === undefined || this.inFlightBytes > 0) return undefined;
    const { reading, atMs } = this.#good;
    const pollInMs = atMs + reading.pollInMs - nowMs;
    if (pollInMs <= 0 || nowMs - atMs >= READING_GOOD_MS) return undefined;
    return { ...reading, progressed: false, pollInMs };
  }

  /** @throws {KernelCallError} The kernel refuses a call, or contradicts itself. */
  #poll(nowMs: number): ConnectionReading {
    const sample = this.#wire.sample();
    const heardByMs = this.#clock.nowMs() - sample.lastAckMs;
    this.#assertAccounts(sample, nowMs);
    if (this.#refusal !== undefined) throw this.#refusal;
    this.#sample = sample;
    const progressed = this.#ledger.acknowledge(sample.bytesAcked - this.#baseBytes);
    const readOn = this.#reads?.settle(this.#readBytes(sample), this.#ledger.drainedPackets);
    const observation = {
      nowMs,
      sample,
      ackedBytes: this.#ledger.ackedBytes,
      unackedBytes: this.#ledger.writtenBytes - this.#ledger.ackedBytes,
      oldestUnackedMs: nowMs - (this.#ledger.oldestUnackedAtMs ?? nowMs),
      progressed,
      asking: this.#asking,
      ...(readOn === undefined ? {} : { readOn, unreadPackets: this.#reads?.heldPackets ?? 0 }),
    };
    const before = this.#memory;
    this.#memory = observe(before, observation);
    const holdMs = this.#limits.holdMs + this.#longerHoldMs;
    const sinceMs = heldSinceMs(this.#memory.aliveAtMs, heardByMs, holdMs);
    this.#hold?.drained(this.#ledger.drainedThroughId, this.#ledger.drainedPackets, sinceMs);
    const watchedMs = this.#watched.look(nowMs);
    const wrong = this.answers && this.#answered(this.answers, watchedMs);
    if (wrong !== undefined) return this.#over(wrong, progressed);
    if (sample.state === TcpState.CLOSE) return this.#examineDeath(nowMs, progressed);
    if (this.#failure !== undefined) {
      const code = this.#failure;
      const words = this.#failureWords ?? code;
      const own = ownEnd(code, this.#failureWords);
      return this.#over(own ?? { kind: "wire-failed", code, words }, progressed);
    }
    // The kernel knows of the FIN before the reader does, in the same reading.
    const finHere = sample.state === TcpState.CLOSE_WAIT || this.#peerClosed;
    if (finHere && this.#limits.onPeerFin === "reconnect") {
      this.#vouchedBeforeFinMs ??= vouchedUntilMs(before);
    }

    this.#gatherEvidence(nowMs);
    const { verdict, giveUp } = judge(
      this.#memory,
      observation,
      { softError: this.#softError, localFault: this.#localFault },
      this.#limits,
    );
    if (giveUp) return this.#over(verdict, progressed);
    const late = this.#owed.late(watchedMs);
    if (late !== undefined) return this.#over(late, progressed);
    // Above TCP an end may come without a FIN, as TLS's close_notify does.
    const isEnding = this.#peerClosed && verdict.kind === "healthy";
    this.#verdict = isEnding ? { kind: "peer-closed" } : verdict;
    if (this.#hold !== undefined) this.#confirmHeld(this.#hold, before);
    this.#askPeer(this.confirmation.heldPackets > 0);
    return {
      verdict: this.#verdict,
      progressed,
      peerClosed: this.#peerClosed,
      alive: true,
      ended: false,
      pollInMs: Math.min(
        this.#lookInMs(sample, nowMs),
        this.#owed.lookInMs,
        this.confirmation.dueInMs(nowMs),
      ),
    };
  }

  #confirmHeld(hold: Hold, before: LivenessMemory): void {
    const untilMs = this.#vouchedBeforeFinMs ?? vouchedUntilMs(this.#memory);
    const vouchedMs = untilMs - this.#longerHoldMs;
    // What it acknowledged before it read again has to be held anew.
    if (resumedReading(before, this.#memory, this.#limits.holdMs)) hold.restart(vouchedMs);
    hold.confirm(vouchedMs);
  }

  /**
   * Lets go of the socket, as invariant 4 says. Idempotent.
   *
   * @param outcome What came of its packets, where the wire is to learn it.
   */
  dispose(outcome?: WireOutcome): void {
    this.answers?.finish();
    this.#outgoing.drop();
    if (outcome !== undefined) this.#wire.concluded?.(outcome);
    if (this.#ledger.inFlightBytes === 0 && this.openPackets === 0) this.#wire.close();
    else this.#wire.abort();
  }

  /** A refused call ends the connection at the next poll; here there may be nobody to tell. */
  #unlessRefused(call: () => void): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof KernelCallError)) throw error;
      this.#refusal ??= error;
      this.#good = undefined;
    }
  }

  /** Owns the read side, so that the peer's bytes never fill the window. */
  async #listen(): Promise<void> {
    try {
      for (;;) {
        const chunk = await this.#reader.next();
        this.#good = undefined;
        if (chunk === null) {
          this.#peerClosed = true;
          break;
        }
        this.#response.sinceMs = undefined;
        const toHeartbeat = this.#heartbeats?.heard(chunk) ?? 0;
        if (this.answers !== undefined) this.#hear(this.answers, chunk, toHeartbeat);
        this.#options.onReceived(chunk);
      }
    } catch (error) {
      this.#failed(error);
    }
    this.#reading = false;
    this.#options.onEnd();
  }

  /** Only what had been acknowledged when an answer came can be answered by it. */
  #hear(answers: Answers, chunk: Uint8Array, toHeartbeat: number): void {
    // Of a wire that is given back nothing can be read.
    if (answers.isOver) return;
    this.#unlessRefused(() => {
      const ackedBytes = this.#wire.sample().bytesAcked - this.#baseBytes;
      // Our FIN counts, too, and comes behind everything that is answered.
      answers.heard(chunk, Math.min(ackedBytes, this.#ledger.assignedBytes), toHeartbeat);
    });
    this.#options.onWritten();
  }

  /** How far the peer's program has read, of what the ledger knows to be acknowledged. */
  #readBytes({ readBytes = -Infinity }: SocketSample): number {
    return Math.min(readBytes - this.#baseBytes, this.#ledger.ackedBytes);
  }

  /** Takes over what the server has answered; says why the connection is given up by it. */
  #answered(answers: Answers, watchedMs: number): Verdict | undefined {
    answers.settle(this.#ledger.ackedBytes, watchedMs);
    const { fault, refusal } = answers;
    if (fault !== undefined) return { kind: "wrong-answer", words: fault };
    return refusal && { kind: "packet-refused", ...refusal };
  }

  /**
   * A peer that may still refuse us is vouched for so much later that what it
   * acknowledges is held for as long as the wire asks.
   */
  get #longerHoldMs(): number {
    return Math.max(0, (this.#wire.minHoldMs ?? 0) - this.#limits.holdMs);
  }

  #failed(error: unknown): void {
    this.#good = undefined;
    this.#failure ??= error instanceof WireError ? error.code : "UNKNOWN";
    this.#outgoing.stop();
    if (error instanceof WireError) this.#failureWords ??= error.message;
  }

  /** Invariant 2. Of a write that has failed nobody knows what the kernel took. */
  #assertAccounts(sample: SocketSample, nowMs: number): void {
    const comparable = !this.#outgoing.writing && this.#outgoing.finSentAtMs === undefined &&
      this.#failure === undefined && sample.state !== TcpState.CLOSE;
    if (!comparable) return;
    this.#crossCheck.check({
      ackedBytes: sample.bytesAcked - this.#baseBytes,
      byQueueBytes: this.#ledger.writtenBytes - sample.sendQueueBytes,
      knownBytes: this.#ledger.ackedBytes,
    }, nowMs);
  }

  /** The cause of a silence: never proof, only words for a verdict. */
  #gatherEvidence(nowMs: number): void {
    const { lastAckMs } = this.#sample;
    if (owedForMs(this.#memory, this.#sample) < EVIDENCE_AFTER_MS) {
      // The peer was heard: what was the matter before says nothing about the next silence.
      this.#localFault = undefined;
      this.#softError = undefined;
      if (lastAckMs < EVIDENCE_AFTER_MS && nowMs - this.#evidenceAtMs >= NOTE_LINK_INTERVAL_MS) {
        this.#evidenceAtMs = nowMs;
        this.#wire.noteLink?.();
      }
      return;
    }
    if (nowMs - this.#evidenceAtMs < EVIDENCE_AFTER_MS) return;
    this.#evidenceAtMs = nowMs;
    this.#localFault = this.#wire.localFault();
    const code = this.#wire.takeSocketError();
    if (code === undefined) return;
    // The error is gone now: remember it as what it was.
    if (this.#wire.sample().state === TcpState.CLOSE) this.#failure ??= code;
    else this.#softError = code;
  }

  /**
   * State CLOSE: certain death, of which the name may come a moment later. The kernel gives a
   * connection's errno to whoever asks first (kernel_facts, section 3): to a write that waited
   * for room, for example, whose rejection the runtime has not delivered yet, while SO_ERROR
   * already reads 0. Only once both calls have returned does that say that nobody was told.
   */
  #examineDeath(nowMs: number, progressed: boolean): ConnectionReading {
    this.#diedAtMs ??= nowMs;
    const callsReturned = !this.#reading && !this.#outgoing.writing;
    if (!callsReturned && this.#failure === undefined && nowMs - this.#diedAtMs < ERRNO_WAIT_MS) {
      return { ...this.#over(this.#verdict, progressed), ended: false, pollInMs: MIN_POLL_MS };
    }
    this.#failure ??= this.#wire.takeSocketError();
    const bothClosed = this.#failure === undefined && this.#peerClosed &&
      this.#outgoing.finSentAtMs !== undefined;
    if (bothClosed) return this.#over({ kind: "peer-closed" }, progressed);
    const code = this.#failure ?? this.#softError ?? (this.#peerClosed ? "EPIPE" : "UNKNOWN");
    const verdict = ownEnd(code, this.#failureWords) ?? this.#failedAbove(code) ??
      judgeDeath(code, this.#memory.silenceMs);
    return this.#over(verdict, progressed);
  }

  /** What the layer above TCP said before says more than TCP's death. */
  #failedAbove(code: string): Verdict | undefined {
    const words = this.#failureWords;
    if (words === undefined || OF_THE_KERNEL.test(code)) return undefined;
    return { kind: "wire-failed", code, words };
  }

  /** Nothing is confirmed by this reading. */
  #over(verdict: Verdict, progressed: boolean): ConnectionReading {
    return {
      verdict,
      progressed,
      peerClosed: this.#peerClosed,
      alive: false,
      ended: true,
      pollInMs: 0,
    };
  }

  #lookInMs({ rttUs, lastAckMs }: SocketSample, nowMs: number): number {
    return lookInMs({
      nowMs,
      rttMs: rttUs / 1000,
      lastAckMs,
      waitingSinceMs: this.#ledger.oldestUnackedAtMs ?? this.#outgoing.finSentAtMs,
      waits: !this.#reading || this.#asking || this.#refusal !== undefined,
      keepAliveTimeoutMs: this.#limits.keepAlive?.timeoutMs,
    });
  }
}
