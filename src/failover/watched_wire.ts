/**
 * A connection to one of several servers, that tells how it ends, and that can be left for
 * another.
 *
 * @module
 */

import type { WireError } from "../base/errors.ts";
import {
  type Clock,
  type LocalFault,
  type SocketSample,
  TcpState,
  type TlsSession,
  type Wire,
  type WireOutcome,
} from "../base/ports.ts";

/** With nothing to acknowledge for so long, a connection can be left without sending anything again. */
const QUIET_MS = 3000;

/** How a connection has ended. */
export interface WatchedEnd {
  /** This side has ended it for a reason of its own: it was left, for example. */
  readonly isOurs: boolean;
  /** By a reset of ours. */
  readonly isAborted: boolean;
  /** The server had ended its side in order. */
  readonly hasPeerFin: boolean;
  /** We had ended ours. */
  readonly hasOurFin: boolean;
  /** Something was confirmed over it. */
  readonly confirmedAny: boolean;
  /** What it was given and did not confirm, as far as anybody has said. */
  readonly unconfirmedPackets: number;
}

/** A wire that is watched. */
export class WatchedWire implements Wire {
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly tls?: TlsSession;
  readonly #wire: Wire;
  readonly #clock: Clock;
  readonly #onEnd: (end: WatchedEnd) => void;
  #busyAtMs: number;
  #left: WireError | undefined;
  /** Whether a read or a write has told that it was left. */
  #isTold = false;
  /** Of those that are pending. */
  readonly #rejects = new Set<(error: WireError) => void>();
  #hasPeerFin = false;
  #hasOurFin = false;
  #outcome: WireOutcome | undefined;
  isOver = false;
  /** Ends what was begun for as long as it lives. */
  cancel: () => void = () => {};

  /**
   * @param wire The connection.
   * @param clock Time.
   * @param onEnd Called once, when whoever has it gives it back.
   */
  constructor(wire: Wire, clock: Clock, onEnd: (end: WatchedEnd) => void) {
    this.#wire = wire;
    this.#clock = clock;
    this.#onEnd = onEnd;
    this.#busyAtMs = clock.nowMs();
    this.localAddress = wire.localAddress;
    this.remoteAddress = wire.remoteAddress;
    if (wire.tls !== undefined) this.tls = wire.tls;
  }

  get minHoldMs(): number {
    return this.#wire.minHoldMs ?? 0;
  }

  /** Whether nothing was under way for a while. */
  get isQuiet(): boolean {
    return this.#clock.nowMs() - this.#busyAtMs >= QUIET_MS;
  }

  /**
   * Whoever reads or writes learns that it is over; what it carries is theirs to send again.
   * Where nobody does, as behind the peer's FIN, it looks dead from now on.
   */
  leave(error: WireError): void {
    this.#left = error;
    this.#isTold ||= this.#rejects.size > 0;
    for (const reject of this.#rejects) reject(error);
  }

  write(bytes: Uint8Array): Promise<number> {
    this.#busyAtMs = this.#clock.nowMs();
    return this.#unlessLeft(() => this.#wire.write(bytes));
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    const count = await this.#unlessLeft(() => this.#wire.read(buffer));
    if (count === null) this.#hasPeerFin = true;
    return count;
  }

  #unlessLeft<Value>(call: () => Promise<Value>): Promise<Value> {
    if (this.#left !== undefined) return Promise.reject(this.#left);
    return new Promise((resolve, reject) => {
      this.#rejects.add(reject);
      const done = (): void => void this.#rejects.delete(reject);
      call().finally(done).then(resolve, reject);
    });
  }

  sample(): SocketSample {
    const sample = this.#wire.sample();
    if (this.#looksDead) return { ...sample, state: TcpState.CLOSE, hangup: true };
    const { sendQueueBytes, bytesAcked, readBytes = bytesAcked } = sample;
    const busy = sendQueueBytes > 0 || readBytes < bytesAcked;
    if (busy) this.#busyAtMs = this.#clock.nowMs();
    return sample;
  }

  get #looksDead(): boolean {
    return this.#left !== undefined && !this.#isTold;
  }

  takeSocketError(): string | undefined {
    return this.#looksDead ? this.#left?.code : this.#wire.takeSocketError();
  }

  askPeer(asking: boolean): void {
    this.#wire.askPeer(asking);
  }

  localFault(): LocalFault | undefined {
    return this.#wire.localFault();
  }

  shutdownWrite(): void {
    this.#hasOurFin = true;
    this.#wire.shutdownWrite();
  }

  concluded(outcome: WireOutcome): void {
    this.#outcome ??= outcome;
    this.#wire.concluded?.(outcome);
  }

  abort(): void {
    this.#end(true);
    this.#wire.abort();
  }

  close(): void {
    this.#end(false);
    this.#wire.close();
  }

  #end(isAborted: boolean): void {
    if (this.isOver) return;
    this.isOver = true;
    this.cancel();
    const { confirmedAny = false, unconfirmedPackets = 0, endedHere = false } = this.#outcome ??
      {};
    this.#onEnd({
      isOurs: this.#left !== undefined || endedHere,
      isAborted,
      hasPeerFin: this.#hasPeerFin,
      hasOurFin: this.#hasOurFin,
      confirmedAny,
      unconfirmedPackets,
    });
  }
}
