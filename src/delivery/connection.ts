/**
 * One connection from its first byte to its end: coalesces packets into writes,
 * reads what the peer sends, and turns kernel readings into drained packets
 * and a verdict.
 *
 * Invariants:
 * 1. `acked = min(bytes_acked − base, written)`, base read before the first
 *    write (kernel_facts, section 12.1). Nothing else confirms a byte.
 * 2. A reading that fails, or that disagrees with Send-Q, confirms nothing and
 *    ends the connection.
 * 3. The end is orderly only if both FINs were acknowledged, every byte was
 *    acked and nobody was told of an error. Every other end is unclean, and
 *    what was not confirmed will be sent again elsewhere.
 * 4. A connection with unacknowledged bytes is aborted, never closed: a closed
 *    one would deliver old bytes beside the replay (section 6.3).
 *
 * @module
 */

import { KernelCallError, WireError } from "../base/errors.ts";
import {
  type Clock,
  type LocalFault,
  type PacketBatch,
  type SocketSample,
  TcpState,
  type Wire,
} from "../base/ports.ts";
import { Ledger } from "./ledger.ts";
import {
  EVIDENCE_AFTER_MS,
  freshMemory,
  judge,
  judgeDeath,
  type LivenessLimits,
  type LivenessMemory,
  observe,
  type Verdict,
} from "./liveness.ts";

/** Batches are coalesced into writes of at most this size; larger ones go alone. */
const WRITE_BYTES = 64 * 1024;
const READ_BYTES = 16 * 1024;
/** SO_ERROR, routes and links are asked this often once silence has begun. */
const EVIDENCE_INTERVAL_MS = 250;
/** How long a dead connection's pending read and write may take to tell their errors. */
const ERRNO_WAIT_MS = 1000;
const MIN_POLL_MS = 1;
const MAX_POLL_MS = 50;
const IDLE_POLL_MS = 1000;

/** What {@linkcode Connection} is told at its start. */
export interface ConnectionOptions {
  readonly wire: Wire;
  readonly clock: Clock;
  readonly limits: LivenessLimits;
  /** The id before the first packet that will be sent here. */
  readonly afterId: number;
  /** Called when a write or the reading has failed, or the peer's FIN is here: time to poll. */
  readonly onEnd: () => void;
  /** Called when the kernel has begun to take bytes, and when it has taken all: poll soon. */
  readonly onWritten: () => void;
  /** Takes what the peer sent; the chunk is the callee's. */
  readonly onReceived: (chunk: Uint8Array) => void;
}

/** What one poll found. */
export interface ConnectionReading {
  readonly verdict: Verdict;
  /** Bytes were acknowledged since the last poll. */
  readonly progressed: boolean;
  /** The peer's FIN is here. */
  readonly peerClosed: boolean;
  /**
   * How long the peer has been silent or not reading: for that time nothing
   * vouches for what it acknowledged before.
   */
  readonly doubtMs: number;
  /** Not in state CLOSE: what has drained may be confirmed. */
  readonly alive: boolean;
  /**
   * Set when the connection is over. `"orderly"`: both FINs and every byte were
   * acknowledged, which a peer that closes with unread bytes answers with a
   * reset instead. `"unclean"` proves nothing.
   */
  readonly end: "orderly" | "unclean" | undefined;
  /** When to poll again at the latest. */
  readonly pollInMs: number;
}

/** What the kernel last said about a connection; at most a second old. */
export interface PathStats {
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
}

/** One established connection. */
export class Connection {
  readonly #wire: Wire;
  readonly #clock: Clock;
  readonly #limits: LivenessLimits;
  readonly #onEnd: () => void;
  readonly #onWritten: () => void;
  readonly #onReceived: (chunk: Uint8Array) => void;
  readonly #ledger: Ledger;
  readonly #baseBytes: number;

  /** Assigned and not yet handed to `write`, from `#outgoingHead` on. */
  #outgoing: PacketBatch[] = [];
  #outgoingHead = 0;
  #writeBuffer: Uint8Array | undefined;
  #writing = false;
  #reading = true;
  #finishing = false;
  #finSentAtMs: number | undefined;
  #peerClosed = false;
  /** When bytes were first written that no byte of the peer has followed. */
  #unansweredSinceMs: number | undefined;
  /** The errno that somebody was told: read, write or SO_ERROR, whoever came first. */
  #failure: string | undefined;

  #verdict: Verdict = { kind: "healthy" };
  #memory: LivenessMemory;
  #sample: SocketSample;
  #softError: string | undefined;
  #localFault: LocalFault | undefined;
  #evidenceAtMs = -Infinity;
  #diedAtMs: number | undefined;

  /**
   * @param options The wire and its limits.
   * @throws {KernelCallError} The base could not be read; the wire is unusable.
   */
  constructor(options: ConnectionOptions) {
    this.#wire = options.wire;
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#onEnd = options.onEnd;
    this.#onWritten = options.onWritten;
    this.#onReceived = options.onReceived;
    this.#ledger = new Ledger(options.afterId);
    this.#memory = freshMemory(options.clock.nowMs());
    // Nothing was written yet: what stands here is our SYN (section 1).
    this.#sample = options.wire.sample();
    this.#baseBytes = this.#sample.bytesAcked;
    void this.#listen();
  }

  /** Assigned and not acknowledged. */
  get inFlightBytes(): number {
    return this.#ledger.inFlightBytes;
  }

  /** Taken by the kernel and not acknowledged. */
  get unackedBytes(): number {
    return this.#ledger.writtenBytes - this.#ledger.ackedBytes;
  }

  /** Assigned and not drained. */
  get inFlightPackets(): number {
    return this.#ledger.inFlightPackets;
  }

  /** Every packet up to and including this id is drained. */
  get drainedThroughId(): number {
    return this.#ledger.drainedThroughId;
  }

  /** How many packets have drained here. */
  get drainedPackets(): number {
    return this.#ledger.drainedPackets;
  }

  /** Bytes the peer's TCP has acknowledged. */
  get ackedBytes(): number {
    return this.#ledger.ackedBytes;
  }

  /** `"192.0.2.1:50123"`. */
  get localAddress(): string {
    return this.#wire.localAddress;
  }

  /** `"192.0.2.7:4000"`. */
  get remoteAddress(): string {
    return this.#wire.remoteAddress;
  }

  /** The last reading, for people. */
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
    };
  }

  /** Takes packets over; they go out in order behind all earlier ones. */
  send(batches: readonly PacketBatch[]): void {
    if (this.#finishing) throw new TypeError("send() after finish()");
    for (const batch of batches) {
      this.#ledger.assignBatch(batch.firstId, batch.ends);
      this.#outgoing.push(batch);
    }
    if (!this.#writing) void this.#pump();
  }

  /** Takes no more packets; our FIN goes out behind the last one. */
  finish(): void {
    this.#finishing = true;
    this.#sendFin();
  }

  /** Reads the kernel, drains what it can, and says how things are. */
  poll(): ConnectionReading {
    const nowMs = this.#clock.nowMs();
    let sample: SocketSample;
    try {
      sample = this.#wire.sample();
      this.#assertAccounts(sample);
    } catch (error) {
      if (!(error instanceof KernelCallError)) throw error;
      const fault = { kind: "unreadable", device: undefined, words: error.message } as const;
      const { silenceMs } = this.#memory;
      return this.#over({ kind: "local-fault", fault, silenceMs }, "unclean", false);
    }
    this.#sample = sample;
    const progressed = this.#ledger.acknowledge(sample.bytesAcked - this.#baseBytes);
    const observation = {
      nowMs,
      sample,
      unackedBytes: this.unackedBytes,
      oldestUnackedMs: nowMs - (this.#ledger.oldestUnackedAtMs ?? nowMs),
      progressed,
    };
    this.#memory = observe(this.#memory, observation);
    if (sample.state === TcpState.CLOSE) return this.#examineDeath(sample, nowMs, progressed);

    this.#gatherEvidence(nowMs);
    const { verdict, giveUp } = judge(
      this.#memory,
      observation,
      { softError: this.#softError, localFault: this.#localFault },
      this.#limits,
    );
    if (giveUp) return this.#over(verdict, "unclean", progressed);
    const unansweredMs = nowMs - (this.#unansweredSinceMs ?? nowMs);
    if (unansweredMs > (this.#limits.responseTimeoutMs ?? Infinity)) {
      return this.#over({ kind: "no-response", unansweredMs }, "unclean", progressed);
    }
    this.#verdict = verdict;
    return {
      verdict,
      progressed,
      peerClosed: this.#peerClosed,
      alive: true,
      doubtMs: Math.max(this.#memory.silenceMs, this.#memory.stalledMs),
      end: undefined,
      pollInMs: this.#pollInMs(sample, nowMs),
    };
  }

  /**
   * Lets go of the socket: closes it if every byte was acknowledged, aborts it
   * otherwise. Idempotent.
   */
  dispose(): void {
    this.#outgoing = [];
    this.#outgoingHead = 0;
    if (this.#ledger.inFlightBytes === 0) this.#wire.close();
    else this.#wire.abort();
  }

  /** Owns the write side: one write at a time, until nothing is outgoing. */
  async #pump(): Promise<void> {
    this.#writing = true;
    try {
      while (this.#failure === undefined) {
        const chunk = this.#nextChunk();
        if (chunk === undefined) break;
        for (let offset = 0; offset < chunk.length;) {
          const takenBytes = await this.#wire.write(chunk.subarray(offset));
          const wasIdle = this.#ledger.oldestUnackedAtMs === undefined;
          this.#ledger.wrote(takenBytes, this.#clock.nowMs());
          this.#unansweredSinceMs ??= this.#clock.nowMs();
          // The next write may wait for room: until then somebody must watch for answers.
          if (wasIdle) this.#onWritten();
          offset += takenBytes;
        }
      }
    } catch (error) {
      this.#failed(error);
    }
    this.#writing = false;
    this.#sendFin();
    if (this.#failure === undefined) this.#onWritten();
    else this.#onEnd();
  }

  /** The next bytes to write: one large batch as it is, or small ones coalesced. */
  #nextChunk(): Uint8Array | undefined {
    const first = this.#outgoing[this.#outgoingHead];
    if (first === undefined) {
      this.#outgoing = [];
      this.#outgoingHead = 0;
      return undefined;
    }
    if (first.bytes.length >= WRITE_BYTES) {
      this.#outgoingHead++;
      return first.bytes;
    }
    this.#writeBuffer ??= new Uint8Array(WRITE_BYTES);
    let filledBytes = 0;
    for (;;) {
      const batch = this.#outgoing[this.#outgoingHead];
      if (batch === undefined || filledBytes + batch.bytes.length > WRITE_BYTES) break;
      this.#writeBuffer.set(batch.bytes, filledBytes);
      filledBytes += batch.bytes.length;
      this.#outgoingHead++;
    }
    if (this.#outgoingHead * 2 > this.#outgoing.length) {
      this.#outgoing = this.#outgoing.slice(this.#outgoingHead);
      this.#outgoingHead = 0;
    }
    return this.#writeBuffer.subarray(0, filledBytes);
  }

  #sendFin(): void {
    if (!this.#finishing || this.#finSentAtMs !== undefined || this.#writing) return;
    this.#finSentAtMs = this.#clock.nowMs();
    this.#wire.shutdownWrite();
  }

  /** Owns the read side, so that the peer's bytes never fill the window. */
  async #listen(): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    try {
      for (;;) {
        const readBytes = await this.#wire.read(buffer);
        if (readBytes === null) {
          this.#peerClosed = true;
          break;
        }
        this.#unansweredSinceMs = undefined;
        this.#onReceived(buffer.slice(0, readBytes));
      }
    } catch (error) {
      this.#failed(error);
    }
    this.#reading = false;
    this.#onEnd();
  }

  #failed(error: unknown): void {
    this.#failure ??= error instanceof WireError ? error.code : "UNKNOWN";
  }

  /**
   * The cross-check of invariant 2. TCP_INFO is read before SIOCOUTQ, so an
   * acknowledgement that arrives in between makes Send-Q the smaller one.
   */
  #assertAccounts(sample: SocketSample): void {
    const comparable = !this.#writing && this.#finSentAtMs === undefined &&
      sample.state !== TcpState.CLOSE;
    if (!comparable) return;
    const ackedBytes = sample.bytesAcked - this.#baseBytes;
    const byQueueBytes = this.#ledger.writtenBytes - sample.sendQueueBytes;
    if (ackedBytes > byQueueBytes || ackedBytes < this.#ledger.ackedBytes) {
      throw new KernelCallError(
        "TCP_INFO",
        `tcpi_bytes_acked says that ${ackedBytes} bytes were acknowledged, written − SIOCOUTQ ` +
          `says ${byQueueBytes}. Nothing was confirmed by this reading. Please report it with ` +
          `your kernel's version.`,
      );
    }
  }

  /** Looks for the cause of a silence: never proof, only words for a verdict. */
  #gatherEvidence(nowMs: number): void {
    if (this.#memory.silenceMs < EVIDENCE_AFTER_MS) {
      this.#localFault = undefined;
      return;
    }
    if (nowMs - this.#evidenceAtMs < EVIDENCE_INTERVAL_MS) return;
    this.#evidenceAtMs = nowMs;
    this.#localFault = this.#wire.localFault();
    const code = this.#wire.takeSocketError();
    if (code === undefined) return;
    // The error is gone now: remember it as what it was.
    if (this.#wire.sample().state === TcpState.CLOSE) this.#failure ??= code;
    else this.#softError = code;
  }

  /** State CLOSE: certain death, or the end of an orderly exchange of FINs. */
  #examineDeath(sample: SocketSample, nowMs: number, progressed: boolean): ConnectionReading {
    this.#diedAtMs ??= nowMs;
    // The errno goes to whoever asks first, and that may be a pending read or
    // write whose rejection is still on its way: only then is silence innocence.
    const settled = !this.#reading && !this.#writing;
    if (!settled && this.#failure === undefined && nowMs - this.#diedAtMs < ERRNO_WAIT_MS) {
      return {
        verdict: this.#verdict,
        progressed,
        peerClosed: this.#peerClosed,
        alive: false,
        doubtMs: Infinity,
        end: undefined,
        pollInMs: MIN_POLL_MS,
      };
    }
    this.#failure ??= this.#wire.takeSocketError();
    const finAcked = this.#finSentAtMs !== undefined &&
      sample.bytesAcked - this.#baseBytes > this.#ledger.writtenBytes;
    const orderly = settled && this.#failure === undefined && this.#peerClosed && finAcked &&
      this.#ledger.inFlightBytes === 0;
    if (orderly) return this.#over({ kind: "peer-closed" }, "orderly", progressed);
    const code = this.#failure ?? this.#softError ?? (this.#peerClosed ? "EPIPE" : "UNKNOWN");
    return this.#over(judgeDeath(code, this.#memory.silenceMs), "unclean", progressed);
  }

  #over(
    verdict: Verdict,
    end: "orderly" | "unclean",
    progressed: boolean,
  ): ConnectionReading {
    const peerClosed = this.#peerClosed;
    return { verdict, progressed, peerClosed, alive: false, doubtMs: Infinity, end, pollInMs: 0 };
  }

  /**
   * A fraction of the round trip while answers are due, coarser the longer they
   * are overdue; once a second when nothing is in flight.
   */
  #pollInMs(sample: SocketSample, nowMs: number): number {
    const waitingSinceMs = this.#ledger.oldestUnackedAtMs ?? this.#finSentAtMs;
    if (waitingSinceMs === undefined) return IDLE_POLL_MS;
    const rttMs = sample.rttUs / 1000;
    const overdueMs = nowMs - waitingSinceMs - rttMs;
    return Math.min(MAX_POLL_MS, Math.max(MIN_POLL_MS, rttMs / 32, overdueMs / 8));
  }
}
