/**
 * A connection to one of several servers, that tells how it ends, and that can be left for
 * another.
 */

import { EndableWire } from "../base/own_end.ts";
import type { Clock, SocketSample, Wire, WireOutcome } from "../base/ports.ts";

/**
 * With nothing to acknowledge, to hold or to answer for so long, a connection can be left without
 * sending anything again.
 */
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
  /** The server is known to end its connections. */
  readonly endIsUsual: boolean;
}

export class WatchedWire extends EndableWire {
  readonly #clock: Clock;
  readonly #onEnd: (end: WatchedEnd) => void;
  #busyAtMs: number;
  #isAsking = false;
  #hasPeerFin = false;
  #hasOurFin = false;
  #outcome: WireOutcome | undefined;
  isOver = false;
  /** Ends what was begun for as long as it lives. */
  cancel: () => void = () => {};

  /** @param onEnd Called once, when whoever has it gives it back. */
  constructor(wire: Wire, clock: Clock, onEnd: (end: WatchedEnd) => void) {
    super(wire);
    this.#clock = clock;
    this.#onEnd = onEnd;
    this.#busyAtMs = clock.nowMs();
  }

  /** Whether nothing was under way for a while. */
  get isQuiet(): boolean {
    return !this.#isAsking && this.#clock.nowMs() - this.#busyAtMs >= QUIET_MS;
  }

  /** Ends it for a server that is preferred. */
  leave(words: string): void {
    this.ownEnd.decide("PREFERRED", words);
  }

  override write(bytes: Uint8Array): Promise<number> {
    this.#busyAtMs = this.#clock.nowMs();
    return super.write(bytes);
  }

  override async read(buffer: Uint8Array): Promise<number | null> {
    const count = await super.read(buffer);
    if (count === null) this.#hasPeerFin = true;
    return count;
  }

  override sample(): SocketSample {
    const sample = super.sample();
    const { sendQueueBytes, bytesAcked, readBytes = bytesAcked } = sample;
    const busy = sendQueueBytes > 0 || readBytes < bytesAcked;
    if (busy) this.#busyAtMs = this.#clock.nowMs();
    return sample;
  }

  /** The peer is asked for as long as there are packets that are acknowledged and not confirmed. */
  override askPeer(asking: boolean): void {
    this.#isAsking = asking;
    this.#busyAtMs = this.#clock.nowMs();
    super.askPeer(asking);
  }

  override shutdownWrite(): void {
    this.#hasOurFin = true;
    super.shutdownWrite();
  }

  override concluded(outcome: WireOutcome): void {
    this.#outcome ??= outcome;
    super.concluded(outcome);
  }

  override abort(): void {
    this.#end(true);
    super.abort();
  }

  override close(): void {
    this.#end(false);
    super.close();
  }

  #end(isAborted: boolean): void {
    if (this.isOver) return;
    this.isOver = true;
    this.cancel();
    const { confirmedAny = false, unconfirmedPackets = 0 } = this.#outcome ?? {};
    this.#onEnd({
      isOurs: this.ownEnd.isDecided || this.#outcome?.endedHere === true,
      isAborted,
      hasPeerFin: this.#hasPeerFin,
      hasOurFin: this.#hasOurFin,
      confirmedAny,
      unconfirmedPackets,
      endIsUsual: this.#outcome?.endIsUsual === true,
    });
  }
}
