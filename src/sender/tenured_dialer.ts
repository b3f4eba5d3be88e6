/**
 * Connections that exist only while their sender may send: without a valid tenure none is
 * made, and no byte is written; when it lapses, the connection is reset at once, so that the
 * kernel drops what it still has.
 *
 * @module
 */

import { WireError } from "../base/errors.ts";
import {
  type Dialer,
  type SocketSample,
  TcpState,
  type TlsSession,
  type Wire,
  type WireOutcome,
} from "../base/ports.ts";
import type { Tenure } from "../queue/tenure.ts";

type Validity = Pick<Tenure, "validForMs" | "subscribeLapsed" | "subscribeRenewed">;

/** No fault of the server's. */
const OUR_END: WireOutcome = { confirmedAny: false, unconfirmedPackets: 0, endedHere: true };

/**
 * Lets a dialer work only under a tenure.
 *
 * @param dialer What makes connections.
 * @param tenure The right to send. One that holds until it is released costs nothing.
 */
export function tenuredDialer(dialer: Dialer, tenure: Validity): Dialer {
  if (tenure.validForMs() === Infinity) return dialer;
  // Whoever connects then goes to the one that sends, and does not wait here for nothing.
  if (dialer.rest !== undefined) tenure.subscribeLapsed(() => dialer.rest?.());
  // Who has nothing to send makes no attempt, and is to be found as before.
  if (dialer.resume !== undefined) tenure.subscribeRenewed?.(() => dialer.resume?.());
  return {
    remote: dialer.remote,
    ...(dialer.waits === undefined ? {} : { waits: dialer.waits }),
    ...(dialer.choice === undefined ? {} : { choice: dialer.choice }),
    async dial(signal, onLookedUp, onHandshake) {
      if (tenure.validForMs() <= 0) throw lapsed();
      const wire = await dialer.dial(signal, onLookedUp, onHandshake).catch((error) => {
        throw tenure.validForMs() > 0 ? error : lapsed();
      });
      if (tenure.validForMs() > 0) return new TenuredWire(wire, tenure);
      wire.concluded?.(OUR_END);
      wire.abort();
      throw lapsed();
    },
  };
}

function lapsed(): WireError {
  return new WireError(
    "LAPSED",
    "this sender could not renew its right to send in time, so that another one may have begun; " +
      "it goes on once it has renewed it",
  );
}

/** A connection that ends with the tenure. */
class TenuredWire implements Wire {
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly tls?: TlsSession;
  readonly #wire: Wire;
  readonly #tenure: Validity;
  readonly #unsubscribe: () => void;
  /** What the kernel said last before the tenure lapsed, as that of a dead connection. */
  #lastSample: SocketSample | undefined;
  #isOver = false;
  #hasLapsed = false;

  constructor(wire: Wire, tenure: Validity) {
    this.localAddress = wire.localAddress;
    this.remoteAddress = wire.remoteAddress;
    if (wire.tls !== undefined) this.tls = wire.tls;
    this.#wire = wire;
    this.#tenure = tenure;
    this.#unsubscribe = tenure.subscribeLapsed(() => this.#lapse());
  }

  get minHoldMs(): number {
    return this.#wire.minHoldMs ?? 0;
  }

  /** Whether it may go on; resets it, if not. */
  #mayGoOn(): boolean {
    if (!this.#isOver && this.#tenure.validForMs() > 0) return true;
    this.#lapse();
    return false;
  }

  #lapse(): void {
    if (this.#isOver) return;
    this.#isOver = this.#hasLapsed = true;
    try {
      this.#lastSample = { ...this.#wire.sample(), state: TcpState.CLOSE, hangup: true };
    } catch {
      // It is dead already, and its reader has been told.
    }
    this.#wire.concluded?.(OUR_END);
    this.#wire.abort();
  }

  write(bytes: Uint8Array): Promise<number> {
    if (!this.#mayGoOn()) return Promise.reject(lapsed());
    return this.#unlessLapsed(this.#wire.write(bytes));
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#unlessLapsed(this.#wire.read(buffer));
  }

  /** Whoever reads or writes learns why it is over, and not only that it is. */
  #unlessLapsed<Count extends number | null>(call: Promise<Count>): Promise<Count> {
    const result = (async () => {
      try {
        const count = await call;
        if (count !== null || !this.#hasLapsed) return count;
      } catch (error) {
        if (!this.#hasLapsed) throw error;
      }
      throw lapsed();
    })();
    // Whoever has moved on is not ended by it.
    result.catch(() => {});
    return result;
  }

  sample(): SocketSample {
    return this.#lastSample ?? this.#wire.sample();
  }

  takeSocketError(): string | undefined {
    return this.#isOver ? "LAPSED" : this.#wire.takeSocketError();
  }

  askPeer(asking: boolean): void {
    if (!this.#isOver) this.#wire.askPeer(asking);
  }

  localFault(): ReturnType<Wire["localFault"]> {
    return this.#isOver ? undefined : this.#wire.localFault();
  }

  shutdownWrite(): void {
    if (this.#mayGoOn()) this.#wire.shutdownWrite();
  }

  concluded(outcome: WireOutcome): void {
    // It was told when the right lapsed.
    if (!this.#hasLapsed) this.#wire.concluded?.(outcome);
  }

  abort(): void {
    this.#unsubscribe();
    this.#isOver = true;
    this.#wire.abort();
  }

  close(): void {
    this.#unsubscribe();
    if (this.#mayGoOn()) this.#wire.close();
    this.#isOver = true;
  }
}
