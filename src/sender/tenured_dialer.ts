/**
 * Connections that exist only while their sender may send: without a valid tenure none is
 * made, and no byte is written; when it lapses, the connection is reset at once, so that the
 * kernel drops what it still has.
 */

import { WireError } from "../base/errors.ts";
import { abortQuietly, deadSample, EndableWire } from "../base/own_end.ts";
import type { Dialer, LocalFault, SocketSample, Wire, WireOutcome } from "../base/ports.ts";
import type { Tenure } from "../queue/tenure.ts";

type Validity = Pick<Tenure, "validForMs" | "subscribeLapsed" | "subscribeRenewed">;

/** No fault of the server's. */
const OUR_END: WireOutcome = { confirmedAny: false, unconfirmedPackets: 0, endedHere: true };

/** Lets a dialer work only under a tenure. One that holds until it is released costs nothing. */
export function tenuredDialer(dialer: Dialer, tenure: Validity): Dialer {
  if (tenure.validForMs() === Infinity) return dialer;
  // Whoever connects then goes to the one that sends, and does not wait here for nothing.
  if (dialer.rest !== undefined) tenure.subscribeLapsed(() => dialer.rest?.());
  // Who has nothing to send makes no attempt, and is to be found as before.
  if (dialer.resume !== undefined) tenure.subscribeRenewed?.(() => dialer.resume?.());
  return {
    remote: dialer.remote,
    get turnedAway() {
      return dialer.turnedAway;
    },
    waits: dialer.waits ?? false,
    ...(dialer.choice === undefined ? {} : { choice: dialer.choice }),
    async dial(signal, onLookedUp, onHandshake) {
      if (tenure.validForMs() <= 0) throw lapsed();
      const wire = await dialer.dial(signal, onLookedUp, onHandshake).catch((error) => {
        throw tenure.validForMs() > 0 ? error : lapsed();
      });
      if (tenure.validForMs() > 0) return new TenuredWire(wire, tenure);
      wire.concluded?.(OUR_END);
      abortQuietly(wire);
      throw lapsed();
    },
  };
}

const WORDS =
  "this sender could not renew its right to send in time, so that another one may have begun; " +
  "it goes on once it has renewed it";
const NOT_RESET =
  "; the kernel refuses to reset the connection, so that what has been written to it " +
  "may still arrive, behind what another one sends";

function lapsed(): WireError {
  return new WireError("LAPSED", WORDS);
}

/** A connection that ends with the tenure. */
class TenuredWire extends EndableWire {
  readonly #tenure: Validity;
  readonly #unsubscribe: () => void;
  /** What the kernel said last before the tenure lapsed, as that of a dead connection. */
  #lastSample: SocketSample | undefined;
  #isOver = false;

  constructor(wire: Wire, tenure: Validity) {
    super(wire);
    this.#tenure = tenure;
    this.#unsubscribe = tenure.subscribeLapsed(() => this.#lapse());
  }

  /** Whether it may go on; resets it, if not. */
  #mayGoOn(): boolean {
    if (!this.#isOver && this.#tenure.validForMs() > 0) return true;
    this.#lapse();
    return false;
  }

  #lapse(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      this.#lastSample = deadSample(this.wire.sample());
    } catch {
      // It is dead already, and its reader has been told.
    }
    this.wire.concluded?.(OUR_END);
    const isReset = abortQuietly(this.wire);
    this.ownEnd.decide("LAPSED", isReset ? WORDS : WORDS + NOT_RESET);
  }

  override write(bytes: Uint8Array): Promise<number> {
    if (!this.#mayGoOn()) return Promise.reject(lapsed());
    return super.write(bytes);
  }

  override sample(): SocketSample {
    return this.#lastSample ?? this.wire.sample();
  }

  override takeSocketError(): string | undefined {
    return this.#isOver ? "LAPSED" : this.wire.takeSocketError();
  }

  override askPeer(asking: boolean): void {
    if (!this.#isOver) this.wire.askPeer(asking);
  }

  override localFault(): LocalFault | undefined {
    return this.#isOver ? undefined : this.wire.localFault();
  }

  override noteLink(): void {
    if (!this.#isOver) this.wire.noteLink?.();
  }

  override shutdownWrite(): void {
    if (this.#mayGoOn()) this.wire.shutdownWrite();
  }

  override concluded(outcome: WireOutcome): void {
    // It was told when the right lapsed.
    if (!this.ownEnd.isDecided) super.concluded(outcome);
  }

  override abort(): void {
    this.#unsubscribe();
    this.#isOver = true;
    this.wire.abort();
  }

  override close(): void {
    this.#unsubscribe();
    if (this.#mayGoOn()) this.wire.close();
    this.#isOver = true;
  }
}
