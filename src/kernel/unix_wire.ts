/**
 * One connection over a Unix socket: bytes go through Deno, readings through a duplicate of
 * its descriptor.
 *
 * What our kernel has taken, the peer's has: everything that was written counts as
 * acknowledged at once. How far the peer's program has *read* is what Send-Q
 * tells here: it is never less than the unread bytes (kernel_facts, 13). So
 *
 *     read ≥ written − Send-Q
 *
 * holds at any time; `UnreadWrites` makes more of it where writes are small. But a peer that ends
 * with unread bytes throws them away, and Send-Q falls, too. Then the kernel has told this socket of
 * the end before (`POLLHUP`), and of the loss (`ECONNRESET`, once, to whoever asks first). So Send-Q
 * is read first and poll second, and
 *
 * 1. without a hang-up, what Send-Q said is true: nothing had been thrown away by then;
 * 2. with a hang-up it is true if the peer has ended in order: our reader has found the end
 *    and no error, poll has none either, and no call is under way that could be told of one;
 * 3. in every other case a reading brings nothing new, and what was known stays known.
 */

import {
  type Clock,
  type LocalFault,
  type SocketSample,
  TcpState,
  type Wire,
} from "../base/ports.ts";
import { closeDescriptor, libc } from "./libc.ts";
import {
  failedCall,
  POLLERR,
  POLLHUP,
  POLLRDHUP,
  SHUT_WR,
  SocketReader,
  takeError,
} from "./socket_reader.ts";
import { UnreadWrites } from "./unread_writes.ts";
import { asWireError, toWireError } from "./wire_error.ts";

/** Where there is no room to write, a program that reads nothing for this long has stalled. */
const STALLED_AFTER_MS = 1000;

/** Who listens, as the kernel remembers it: `struct ucred` of SO_PEERCRED. */
export interface UnixPeer {
  /** The process that called listen(2); it may have ended since, or have passed the socket on. */
  readonly processId: number;
  /** Its user. */
  readonly userId: number;
}

export class UnixWire implements Wire {
  /** A Unix socket that connects has no name. */
  readonly localAddress: string = "unnamed";
  readonly remoteAddress: string;
  /** Who listens there; undefined: the kernel does not say. */
  readonly peer: UnixPeer | undefined;
  readonly #conn: Deno.UnixConn;
  readonly #clock: Clock;
  readonly #reader = new SocketReader();
  readonly #unread = new UnreadWrites();
  /** -1 once given back: the number may be somebody else's by then. */
  #fd: number;
  /** Taken by the kernel, as far as our writes have returned. */
  #takenBytes = 0;
  /** Read by the peer's program, for certain. */
  #readBytes = 0;
  /** When that last grew, or when a write began to wait. */
  #readOnAtMs: number;
  /** Handed over, and not taken yet as far as we have heard. */
  #underWayBytes = 0;
  #readsUnderWay = 0;
  /** Our reader has found the peer's end, and no error. */
  #endRead = false;
  /** Bytes were thrown away unread: somebody was told, or will be. */
  #lost = false;
  /** A write has failed, and the peer is gone. */
  #broken = false;
  #finSent = false;

  /** Takes over the connection, and a duplicate of its descriptor; gives both back at the end. */
  constructor(
    conn: Deno.UnixConn,
    fd: number,
    { remote, peer, clock }: {
      readonly remote: string;
      readonly peer: UnixPeer | undefined;
      readonly clock: Clock;
    },
  ) {
    this.#conn = conn;
    this.#fd = fd;
    this.#clock = clock;
    this.#readOnAtMs = clock.nowMs();
    this.remoteAddress = remote;
    this.peer = peer;
  }

  write(bytes: Uint8Array): Promise<number> {
    if (this.#underWayBytes === 0) this.#readOnAtMs = this.#clock.nowMs();
    this.#underWayBytes += bytes.length;
    return this.#asWireError(async () => {
      try {
        const beforeBytes = this.#reader.sendQueue(this.#fd);
        const writing = this.#conn.write(bytes);
        // Where there is room, it has been taken by now; otherwise this has not grown.
        const grownBytes = this.#reader.sendQueue(this.#fd) - beforeBytes;
        const takenBytes = await writing;
        this.#takenBytes += takenBytes;
        this.#unread.took(takenBytes, grownBytes);
        return takenBytes;
      } catch (error) {
        if (!this.#finSent) this.#broken = true;
        this.#heed(error);
        throw error;
      } finally {
        this.#underWayBytes -= bytes.length;
      }
    }, "written to");
  }

  read(buffer: Uint8Array): Promise<number | null> {
    this.#readsUnderWay++;
    return this.#asWireError(async () => {
      try {
        const count = await this.#conn.read(buffer);
        if (count === null) this.#endRead = true;
        return count;
      } catch (error) {
        this.#heed(error);
        throw error;
      } finally {
        this.#readsUnderWay--;
      }
    }, "read from");
  }

  /** A program that has stalled, and has left no room, stands for a closed window. */
  sample(): SocketSample {
    const memoryBytes = this.#reader.sendQueue(this.#fd);
    const events = this.#reader.events(this.#fd, POLLRDHUP);
    const hangup = (events & POLLHUP) !== 0;
    if ((events & POLLERR) !== 0) this.#lost = true;
    const nowMs = this.#clock.nowMs();
    const callsReturned = this.#underWayBytes === 0 && this.#readsUnderWay === 0;
    const endedInOrder = this.#endRead && callsReturned;
    if (!this.#lost && (!hangup || endedInOrder)) {
      const readBytes = this.#takenBytes - this.#unread.unreadBytes(memoryBytes);
      if (readBytes > this.#readBytes) {
        this.#readBytes = readBytes;
        this.#readOnAtMs = nowMs;
      }
    }
    const stalled = this.#underWayBytes > 0 && nowMs - this.#readOnAtMs > STALLED_AFTER_MS;
    return {
      // Who reads or writes is about to be told how it ended: until then nobody knows.
      state: this.#stateOf(hangup && callsReturned, !hangup && (events & POLLRDHUP) !== 0),
      sendQueueBytes: 0,
      notSentBytes: stalled ? this.#underWayBytes : 0,
      bytesAcked: this.#takenBytes,
      unackedSegments: 0,
      sendMssBytes: 1,
      sendWindowBytes: stalled ? 0 : undefined,
      windowLimitedUs: 0,
      rttUs: 0,
      lastAckMs: 0, // The peer's kernel is ours: it is there.
      probes: 0,
      retransmits: 0,
      totalRetransmits: 0,
      hangup,
      readBytes: this.#readBytes,
    };
  }

  #stateOf(hangup: boolean, peerEnded: boolean): number {
    if (this.#lost || this.#broken || (hangup && this.#finSent)) return TcpState.CLOSE;
    // Whoever has closed in order is like one that has only half-closed.
    if (hangup || peerEnded) return TcpState.CLOSE_WAIT;
    return this.#finSent ? TcpState.FIN_WAIT2 : TcpState.ESTABLISHED;
  }

  takeSocketError(): string | undefined {
    const code = takeError(this.#fd);
    if (code !== undefined) this.#lost = true;
    return code;
  }

  /** There is nothing to ask: the peer's kernel is ours. */
  askPeer(_asking: boolean): void {}

  /** There is no path that could be at fault. */
  localFault(): LocalFault | undefined {
    return undefined;
  }

  shutdownWrite(): void {
    if (libc().shutdown(this.#fd, SHUT_WR) !== 0) throw failedCall("shutdown(SHUT_WR)", this.#fd);
    this.#finSent = true;
  }

  /**
   * Ends the connection. Nobody can take back what lies in the peer's buffer: its program
   * may still read it, and then finds an end and no reset.
   */
  abort(): void {
    this.close();
  }

  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#conn.close();
    closeDescriptor(fd);
  }

  /** Who was told of a loss is the only one who ever is. */
  #heed(error: unknown): void {
    if (toWireError(error).code !== "EPIPE") this.#lost = true;
  }

  #asWireError<T>(operation: () => Promise<T>, verb: string): Promise<T> {
    const what = `${this.remoteAddress} could not be ${verb}`;
    return asWireError(operation, what, () => this.#fd < 0);
  }
}
