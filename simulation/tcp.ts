/**
 * One end of a TCP connection, as far as `SocketSample` and a peer can tell:
 * the send side of Linux as measured in kernel_facts, sections 1 to 8, and a
 * receive side that is enough to be its peer. Both ends are of this class.
 *
 * What is left out: sequence numbers that wrap, reordering by the network,
 * delayed acknowledgements, tail-loss probes, and congestion control beyond
 * slow start. None of them shows in what the sender decides on.
 *
 * @module
 */

import { type SocketSample, TcpState } from "../src/base/ports.ts";
import { cancel, type Scheduler, type SimEvent } from "./scheduler.ts";
import type { Segment, TcpEvents, TcpOptions, Transmit } from "./segment.ts";
import { ReceiveSide } from "./tcp_receiver.ts";

interface InFlight {
  readonly seq: number;
  readonly end: number;
  readonly bytes: Uint8Array | undefined;
  readonly fin: boolean;
  readonly sentAtMs: number;
  retransmitted: boolean;
}

const RTO_MIN_MS = 200;
/** Without TCP_USER_TIMEOUT the kernel gives up after this; with RTO_MAX 1 s see section 5.6. */
const RETRIES_LIMIT_MS = 924_000;
const SHORT_RETRIES_LIMIT_MS = 15_000;
const FIN_WAIT2_MS = 60_000;
const INITIAL_WINDOW_SEGMENTS = 10;
const MAX_WINDOW_SEGMENTS = 400;

/** One end. */
export class TcpEnd {
  readonly connection: number;
  readonly isClient: boolean;
  readonly options: TcpOptions;
  readonly #scheduler: Scheduler;
  readonly #transmit: Transmit;
  /** Replaced by whoever owns the end's descriptor. */
  events: TcpEvents = { readable() {}, writable() {}, acked() {}, dead() {} };
  /** Called when the end has no more business with the network. */
  onGone: () => void = () => {};

  state: number;
  /** Where the peer has acknowledged, our FIN included. */
  sendUna = 0;
  /** End of what was written. */
  writeSeq = 0;
  /** Nobody holds a descriptor any more. */
  orphan = false;
  /** Both FINs were acknowledged and no error came in between. */
  orderly = false;
  lastReceivedAtMs: number;
  /** The same, without the peer's FIN and what came after it. */
  heardBeforeFinAtMs: number;
  /** What the peer's program has taken, as far as it was told. */
  peerTakenBytes = 0;
  /** Added to what `tcpi_bytes_acked` says: a kernel that does not count it. */
  hidesAcks = false;
  hadHidden = false;
  /** `tcpi_bytes_acked` counts the SYN of the side that has connected (section 1). */
  countsSyn: boolean;
  srttMs: number;

  #sendNext = 0;
  #chunks: { readonly seq: number; readonly bytes: Uint8Array }[] = [];
  #inFlight: InFlight[] = [];
  #finQueued = false;
  #sendWindow: number;
  /** Never more than half of what the peer can hold, as in `tcp_bound_to_half_wnd()`. */
  readonly #mssBytes: number;
  #windowSegments = INITIAL_WINDOW_SEGMENTS;
  #duplicateAcks = 0;
  #recoverThrough = -1;

  readonly #receiver: ReceiveSide;

  #retransmitTimer: SimEvent | undefined;
  #keepAliveTimer: SimEvent | undefined;
  #keepAlive: TcpOptions["keepAlive"];
  #rtoMs = 1000;
  #rttVarMs = 0;
  #backoff = 0;
  #retransmits = 0;
  #totalRetransmits = 0;
  #retransmitStartMs: number | undefined;
  #probes = 0;
  #probeStartMs: number | undefined;
  #windowLimitedSinceMs: number | undefined;
  #windowLimitedMs = 0;
  #hardError: string | undefined;
  #softError: string | undefined;

  /** An established end. */
  constructor(
    scheduler: Scheduler,
    transmit: Transmit,
    options: TcpOptions,
    connection: number,
    isClient: boolean,
    rttMs: number,
    peerWindowBytes: number,
  ) {
    this.#scheduler = scheduler;
    this.#transmit = transmit;
    this.options = options;
    this.connection = connection;
    this.isClient = isClient;
    this.countsSyn = isClient;
    this.state = TcpState.ESTABLISHED;
    this.lastReceivedAtMs = scheduler.nowMs;
    this.heardBeforeFinAtMs = scheduler.nowMs;
    this.#keepAlive = options.keepAlive;
    this.srttMs = rttMs;
    this.#rttVarMs = rttMs / 2;
    this.#receiver = new ReceiveSide(options.receiveBufferBytes, options.mssBytes);
    this.#sendWindow = peerWindowBytes;
    this.#mssBytes = Math.min(options.mssBytes, peerWindowBytes >> 1);
    this.#setRto();
    this.#armKeepAlive();
  }

  /** Bytes that can be read now. */
  get readableBytes(): number {
    return this.#receiver.readableBytes;
  }

  /** The peer's FIN is here, behind all its data. */
  get finReceived(): boolean {
    return this.#receiver.finReceived;
  }

  /** Data bytes of the peer that arrived in order. */
  get receivedDataBytes(): number {
    return this.#receiver.next - (this.finReceived ? 1 : 0);
  }

  /** Data bytes written and not acknowledged. */
  get unackedBytes(): number {
    return Math.max(0, this.writeSeq - this.sendUna);
  }

  /** Room in the send buffer. */
  get sendRoomBytes(): number {
    return this.options.sendBufferBytes - this.unackedBytes;
  }

  /** Whether nothing can be written any more. */
  get writeShut(): boolean {
    return this.#finQueued || this.state === TcpState.CLOSE;
  }

  /** Whether the peer keeps its window too small for a segment. */
  get windowClosed(): boolean {
    return this.#inFlight.length === 0 && this.writeSeq > this.#sendNext &&
      this.#sendWindow < this.#mssBytes;
  }

  /** As TCP_INFO, SIOCOUTQ and poll show it. */
  sample(): SocketSample {
    const nowMs = this.#scheduler.nowMs;
    const limitedMs = this.#windowLimitedSinceMs === undefined
      ? this.#windowLimitedMs
      : this.#windowLimitedMs + nowMs - this.#windowLimitedSinceMs;
    return {
      state: this.state,
      sendQueueBytes: this.#limit - this.sendUna,
      notSentBytes: Math.max(0, this.#limit - this.#sendNext),
      bytesAcked: this.hidesAcks ? 0 : this.sendUna + (this.countsSyn ? 1 : 0),
      unackedSegments: this.#inFlight.length,
      sendMssBytes: this.#mssBytes,
      sendWindowBytes: this.#sendWindow,
      windowLimitedUs: Math.floor(limitedMs * 1000),
      rttUs: Math.round(this.srttMs * 1000),
      // Jiffies of 4 ms.
      lastAckMs: Math.floor(nowMs / 4) * 4 - Math.floor(this.lastReceivedAtMs / 4) * 4,
      probes: this.#probes,
      retransmits: this.#retransmits,
      totalRetransmits: this.#totalRetransmits,
      hangup: this.state === TcpState.CLOSE || (this.finReceived && this.#finQueued),
      ...(this.options.tellsReads
        ? { readBytes: this.peerTakenBytes + (this.countsSyn ? 1 : 0) }
        : {}),
    };
  }

  /** `sock_error()`: the error that ended the connection, to the first who asks. */
  takeHardError(): string | undefined {
    const error = this.#hardError;
    this.#hardError = undefined;
    return error;
  }

  /** `getsockopt(SO_ERROR)`: also the last soft error. */
  takeSocketError(): string | undefined {
    const hard = this.takeHardError();
    if (hard !== undefined) return hard;
    const soft = this.#softError;
    this.#softError = undefined;
    return soft;
  }

  /** Takes bytes into the send buffer; the caller has seen that there is room. */
  write(bytes: Uint8Array): void {
    this.#chunks.push({ seq: this.writeSeq, bytes });
    this.writeSeq += bytes.length;
    this.#output();
  }

  /** Takes up to `maxBytes` of what has arrived. */
  read(maxBytes: number): Uint8Array | undefined {
    const oldWindow = this.#receiver.promisedBytes;
    const part = this.#receiver.read(maxBytes);
    const canReceive = this.state !== TcpState.CLOSE && !this.finReceived;
    const news = this.options.tellsReads || this.#receiver.isWorthTelling(oldWindow);
    if (part !== undefined && canReceive && news) this.#sendAck();
    return part;
  }

  /** The peer has asked again for what was acknowledged. */
  acknowledge(): void {
    this.#sendAck();
  }

  /** SO_KEEPALIVE and its three options, at any time. */
  setKeepAlive(keepAlive: TcpOptions["keepAlive"]): void {
    cancel(this.#keepAliveTimer);
    this.#keepAliveTimer = undefined;
    this.#keepAlive = keepAlive;
    if (this.state !== TcpState.CLOSE) this.#armKeepAlive();
  }

  /** `shutdown(SHUT_WR)`. */
  shutdownWrite(): void {
    if (this.#finQueued || this.state === TcpState.CLOSE) return;
    this.#finQueued = true;
    this.state = this.finReceived ? TcpState.LAST_ACK : TcpState.FIN_WAIT1;
    this.#output();
  }

  /** `close()`: a reset if something was left unread, else a FIN behind what is queued. */
  close(): void {
    if (this.orphan) return;
    this.orphan = true;
    if (this.state === TcpState.CLOSE) return this.#gone();
    if (this.readableBytes > 0) return this.abort();
    this.shutdownWrite();
    if (this.state === TcpState.FIN_WAIT2) this.#awaitFinBriefly();
  }

  /** Ends it at once with a reset. */
  abort(): void {
    this.orphan = true;
    if (this.state !== TcpState.CLOSE) this.#sendReset();
    this.vanish();
  }

  /** Ends it without a sign: the host has lost its power. */
  vanish(): void {
    this.orphan = true;
    this.state = TcpState.CLOSE;
    this.#gone();
  }

  /** An ICMP error about one of our data segments. */
  icmp(code: string): void {
    if (this.state !== TcpState.CLOSE) this.#softError = code;
  }

  /** A segment of the peer arrives. */
  receive(segment: Segment): void {
    if (segment.kind === "rst") {
      if (this.state === TcpState.CLOSE) return this.#gone();
      return this.#die(this.state === TcpState.CLOSE_WAIT ? "EPIPE" : "ECONNRESET");
    }
    if (this.state === TcpState.CLOSE) {
      // TIME_WAIT: our last acknowledgement was lost.
      if (segment.fin) this.#sendAck();
      return;
    }
    this.lastReceivedAtMs = this.#scheduler.nowMs;
    const beforeFin = !segment.fin && !this.finReceived;
    if (beforeFin) this.heardBeforeFinAtMs = this.lastReceivedAtMs;
    if (segment.kind !== "data") return;
    this.peerTakenBytes = Math.max(this.peerTakenBytes, segment.taken ?? 0);
    this.#takeAck(segment);
    if (this.#isClosed()) return;
    this.#takeData(segment);
    if (beforeFin) this.events.heard?.();
  }

  #isClosed(): boolean {
    return this.state === TcpState.CLOSE;
  }

  get #limit(): number {
    return this.writeSeq + (this.#finQueued ? 1 : 0);
  }

  #takeAck(segment: Segment): void {
    this.#probes = 0;
    const nowMs = this.#scheduler.nowMs;
    const windowBefore = this.#sendWindow;
    this.#sendWindow = segment.window;
    if (segment.ack > this.sendUna) {
      this.sendUna = segment.ack;
      let newest: InFlight | undefined;
      let count = 0;
      for (const flight of this.#inFlight) {
        if (flight.end > segment.ack) break;
        newest = flight;
        count++;
      }
      this.#inFlight.splice(0, count);
      this.#dropChunks();
      if (newest !== undefined && !newest.retransmitted) this.#measure(nowMs - newest.sentAtMs);
      this.#windowSegments = Math.min(MAX_WINDOW_SEGMENTS, this.#windowSegments + count);
      this.#duplicateAcks = 0;
      this.#backoff = 0;
      this.#retransmits = 0;
      this.#retransmitStartMs = undefined;
      this.#setRto();
      this.#stopRetransmitTimer();
      if (this.sendUna <= this.#recoverThrough) this.#retransmitHead();
      this.events.acked();
      this.#finAcked();
      if (this.#isClosed()) return;
      if (this.sendRoomBytes >= this.options.sendBufferBytes / 3) this.events.writable();
    } else if (
      segment.bytes === undefined && !segment.fin && this.#inFlight.length > 0 &&
      segment.window === windowBefore && ++this.#duplicateAcks === 3
    ) {
      this.#recoverThrough = this.#sendNext - 1;
      this.#windowSegments = Math.max(2, this.#windowSegments >> 1);
      this.#retransmitHead();
    }
    this.#output();
  }

  #finAcked(): void {
    if (!this.#finQueued || this.sendUna < this.#limit) return;
    if (this.state === TcpState.FIN_WAIT1) {
      this.state = TcpState.FIN_WAIT2;
      if (this.orphan) this.#awaitFinBriefly();
    } else if (this.state === TcpState.LAST_ACK || this.state === TcpState.CLOSING) {
      this.#endInOrder();
    }
  }

  #takeData(segment: Segment): void {
    const { next, finReceived } = this.#receiver;
    const length = segment.bytes?.length ?? 0;
    const end = segment.seq + length + (segment.fin ? 1 : 0);
    if (end === segment.seq) {
      // A probe asks from before our edge; a bare acknowledgement asks nothing.
      if (segment.seq < next) this.#sendAck();
      return;
    }
    if (this.orphan && length > 0 && end > next) {
      this.#sendReset();
      this.vanish();
      return;
    }
    const progressed = this.#receiver.accept(segment);
    if (this.finReceived && !finReceived) this.#finCame();
    this.#sendAck();
    if (progressed) this.events.readable();
    if (this.state === TcpState.TIME_WAIT) this.#endInOrder();
  }

  #finCame(): void {
    if (this.state === TcpState.ESTABLISHED) this.state = TcpState.CLOSE_WAIT;
    else if (this.state === TcpState.FIN_WAIT1) this.state = TcpState.CLOSING;
    else if (this.state === TcpState.FIN_WAIT2) this.state = TcpState.TIME_WAIT;
  }

  #output(): void {
    const probing = this.#inFlight.length === 0;
    for (;;) {
      const flight = this.#nextToSend(this.#sendWindow - (this.#sendNext - this.sendUna));
      if (flight === undefined || !this.#launch(flight)) break;
    }
    this.#noteWindowLimit();
    // From probing to retransmitting, or nothing left to do: the old timer has no meaning.
    const idle = this.#sendNext === this.#limit && this.#inFlight.length === 0;
    if (idle || (probing && this.#inFlight.length > 0)) this.#stopRetransmitTimer();
    if (!idle) this.#armRetransmit(this.#rtoMs);
  }

  #nextToSend(windowBytes: number): InFlight | undefined {
    if (this.#inFlight.length >= this.#windowSegments) return undefined;
    const sentAtMs = this.#scheduler.nowMs;
    const seq = this.#sendNext;
    if (seq < this.writeSeq) {
      const bytes = this.#slice(seq, this.#mssBytes);
      if (bytes.length > windowBytes) return undefined;
      return { seq, end: seq + bytes.length, bytes, fin: false, sentAtMs, retransmitted: false };
    }
    if (seq === this.#limit) return undefined;
    return { seq, end: seq + 1, bytes: undefined, fin: true, sentAtMs, retransmitted: false };
  }

  /** First transmission: what cannot leave this host stays "not sent" (section 4). */
  #launch(flight: InFlight): boolean {
    if (!this.#sendData(flight)) return false;
    this.#inFlight.push(flight);
    this.#sendNext = flight.end;
    this.#probeStartMs = undefined;
    return true;
  }

  #slice(seq: number, maxBytes: number): Uint8Array {
    for (const chunk of this.#chunks) {
      const offset = seq - chunk.seq;
      if (offset < chunk.bytes.length) return chunk.bytes.subarray(offset, offset + maxBytes);
    }
    throw new RangeError(`nothing to send at ${seq}`);
  }

  #dropChunks(): void {
    let count = 0;
    for (const { seq, bytes } of this.#chunks) {
      if (seq + bytes.length > this.sendUna) break;
      count++;
    }
    if (count > 0) this.#chunks.splice(0, count);
  }

  #noteWindowLimit(): void {
    const nowMs = this.#scheduler.nowMs;
    if (this.windowClosed) this.#windowLimitedSinceMs ??= nowMs;
    else if (this.#windowLimitedSinceMs !== undefined) {
      this.#windowLimitedMs += nowMs - this.#windowLimitedSinceMs;
      this.#windowLimitedSinceMs = undefined;
    }
  }

  #armRetransmit(delayMs: number): void {
    if (this.#retransmitTimer !== undefined) return;
    this.#retransmitTimer = this.#scheduler.after(delayMs, () => {
      this.#retransmitTimer = undefined;
      if (this.#inFlight.length > 0) this.#onRetransmitTimer();
      else this.#onProbeTimer();
    });
  }

  #stopRetransmitTimer(): void {
    cancel(this.#retransmitTimer);
    this.#retransmitTimer = undefined;
  }

  #onRetransmitTimer(): void {
    const nowMs = this.#scheduler.nowMs;
    const limitMs = this.options.userTimeoutMs || this.#retriesLimitMs;
    if (this.#retransmitStartMs !== undefined && nowMs - this.#retransmitStartMs >= limitMs) {
      return this.#die(this.#softError ?? "ETIMEDOUT");
    }
    this.#retransmitStartMs ??= nowMs;
    this.#recoverThrough = this.#sendNext - 1;
    this.#windowSegments = Math.max(2, this.#windowSegments >> 1);
    this.#retransmits++;
    this.#backoff++;
    this.#retransmitHead();
    this.#armRetransmit(this.#backedOffMs());
  }

  #retransmitHead(): void {
    const head = this.#inFlight[0];
    if (head === undefined) return;
    head.retransmitted = true;
    if (this.#sendData(head)) this.#totalRetransmits++;
  }

  /** Zero window, or a segment that could not leave this host. */
  #onProbeTimer(): void {
    const nowMs = this.#scheduler.nowMs;
    const { userTimeoutMs } = this.options;
    this.#probeStartMs ??= nowMs;
    const limitMs = userTimeoutMs || (this.#probes > 0 ? this.#retriesLimitMs : Infinity);
    const sinceMs = userTimeoutMs > 0 ? this.#probeStartMs : this.lastReceivedAtMs;
    if (nowMs - sinceMs >= limitMs) {
      this.#sendReset();
      return this.#die(this.#softError ?? "ETIMEDOUT");
    }
    this.#backoff++;
    const windowBytes = this.#sendWindow - (this.#sendNext - this.sendUna);
    const flight = windowBytes <= 0 ? undefined : this.#nextToSend(Infinity);
    if (flight === undefined) {
      this.#probes++;
      this.#sendProbe();
    } else if (flight.bytes === undefined || flight.bytes.length <= windowBytes) {
      if (!this.#launch(flight)) this.#probes++;
    } else {
      const bytes = flight.bytes.subarray(0, windowBytes);
      if (!this.#launch({ ...flight, bytes, end: flight.seq + bytes.length })) this.#probes++;
    }
    this.#armRetransmit(this.#backedOffMs());
  }

  get #retriesLimitMs(): number {
    return this.options.rtoMaxMs <= 1000 ? SHORT_RETRIES_LIMIT_MS : RETRIES_LIMIT_MS;
  }

  #backedOffMs(): number {
    return Math.min(this.options.rtoMaxMs, this.#rtoMs * 2 ** Math.min(this.#backoff, 10));
  }

  #armKeepAlive(): void {
    const keepAlive = this.#keepAlive;
    if (keepAlive === undefined) return;
    const tick = (): void => {
      if (this.#isClosed()) return;
      const idleMs = this.#scheduler.nowMs - this.lastReceivedAtMs;
      const busy = this.#inFlight.length > 0 || this.#sendNext < this.#limit;
      let nextMs = keepAlive.idleMs;
      if (!busy && idleMs >= keepAlive.idleMs) {
        const { userTimeoutMs } = this.options;
        const expired = userTimeoutMs > 0
          ? idleMs >= userTimeoutMs && this.#probes > 0
          : this.#probes >= keepAlive.count;
        if (expired) {
          this.#sendReset();
          return this.#die("ETIMEDOUT");
        }
        this.#probes++;
        this.#sendProbe();
        nextMs = keepAlive.intervalMs;
      } else if (!busy) nextMs = Math.max(1, keepAlive.idleMs - idleMs);
      this.#keepAliveTimer = this.#scheduler.after(nextMs, tick);
    };
    const idleMs = this.#scheduler.nowMs - this.lastReceivedAtMs;
    this.#keepAliveTimer = this.#scheduler.after(Math.max(0, keepAlive.idleMs - idleMs), tick);
  }

  #measure(rttMs: number): void {
    this.#rttVarMs = 0.75 * this.#rttVarMs + 0.25 * Math.abs(this.srttMs - rttMs);
    this.srttMs = 0.875 * this.srttMs + 0.125 * rttMs;
    this.#setRto();
  }

  #setRto(): void {
    const rtoMs = this.srttMs + Math.max(RTO_MIN_MS, 4 * this.#rttVarMs);
    this.#rtoMs = Math.min(this.options.rtoMaxMs, rtoMs);
  }

  #sendData({ seq, bytes, fin }: InFlight): boolean {
    return this.#send("data", seq, bytes, fin);
  }

  #sendAck(): void {
    this.#send("data", this.#sendNext, undefined, false);
  }

  /** From before the peer's edge, so that it has to answer. */
  #sendProbe(): void {
    this.#send("data", this.sendUna - 1, undefined, false);
  }

  #sendReset(): void {
    this.#send("rst", this.#sendNext, undefined, false);
  }

  #send(kind: "data" | "rst", seq: number, bytes: Uint8Array | undefined, fin: boolean): boolean {
    return this.#transmit({
      connection: this.connection,
      fromClient: this.isClient,
      kind,
      seq,
      bytes,
      fin,
      ack: this.#receiver.next,
      window: this.#receiver.promise(),
      ...(this.options.tellsReads ? { taken: this.receivedDataBytes - this.readableBytes } : {}),
    });
  }

  #awaitFinBriefly(): void {
    this.#scheduler.after(FIN_WAIT2_MS, () => {
      if (this.state === TcpState.FIN_WAIT2) this.vanish();
    });
  }

  #endInOrder(): void {
    this.orderly = true;
    this.#stop();
    // The end itself stays on the network a while, to answer a repeated FIN.
    this.#scheduler.after(FIN_WAIT2_MS, () => this.#gone());
  }

  #die(code: string): void {
    this.#hardError = code;
    this.#stop();
    this.#gone();
  }

  #stop(): void {
    this.state = TcpState.CLOSE;
    this.#inFlight = [];
    this.#stopTimers();
    this.events.dead();
    this.events.readable();
    this.events.writable();
  }

  #gone(): void {
    this.#stopTimers();
    this.onGone();
  }

  #stopTimers(): void {
    this.#stopRetransmitTimer();
    cancel(this.#keepAliveTimer);
  }
}
