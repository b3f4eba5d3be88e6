/**
 * The sender's listening socket: a `Dialer` to which the simulated server connects. Which
 * connection is used decides the code under test.
 *
 * @module
 */

import { OwnEnd } from "../src/base/own_end.ts";
import type { Dialer, SocketSample } from "../src/base/ports.ts";
import { Arrivals } from "../src/kernel/arrivals.ts";
import type { Network } from "./network.ts";
import type { SimProcess } from "./scheduler.ts";
import type { TcpEnd } from "./tcp.ts";
import { SimWire, type SyscallChance, type WireWatcher } from "./wire.ts";

/** Listens on behalf of one process, as long as that lives. */
export class SimListenDialer implements Dialer {
  readonly waits = true;
  readonly remote = "listen://192.0.2.1:4000";
  /** The connection made last. */
  wire: SimWire | undefined;
  readonly #arrivals: Arrivals<TcpEnd>;
  readonly #make: (end: TcpEnd, onEnd: (wire: AcceptedSimWire) => void) => AcceptedSimWire;
  readonly #watcher: WireWatcher;

  /** @param refusesSecond Whether the connection in use stays. */
  constructor(
    network: Network,
    process: SimProcess,
    watcher: WireWatcher,
    chance: SyscallChance,
    refusesSecond: boolean,
  ) {
    const arrivals = this.#arrivals = new Arrivals<TcpEnd>(refusesSecond);
    this.#watcher = watcher;
    this.#make = (end, onEnd) => new AcceptedSimWire(network, process, end, watcher, chance, onEnd);
    network.listener = (end) => {
      const accept = () =>
        process.enter(() => {
          if (!refusesSecond) watcher.arrived();
          arrivals.take(end);
        });
      const lagMs = chance.lagMs();
      if (lagMs === 0) accept();
      else network.scheduler.after(lagMs, accept);
    };
  }

  /** Waits for a connection. */
  async dial(signal: AbortSignal, onLookedUp: () => void = () => {}): Promise<SimWire> {
    signal.throwIfAborted();
    this.#watcher.dialed();
    onLookedUp();
    const end = await this.#arrivals.next(signal);
    const wire = this.#make(end, (wire) => this.#arrivals.ended(wire));
    this.#arrivals.use(wire);
    this.wire = wire;
    this.#watcher.opened(wire);
    return wire;
  }
}

/** A wire that another connection may take the place of. */
class AcceptedSimWire extends SimWire {
  readonly #onEnd: (wire: AcceptedSimWire) => void;
  readonly #ownEnd = new OwnEnd();

  constructor(
    network: Network,
    process: SimProcess,
    end: TcpEnd,
    watcher: WireWatcher,
    chance: SyscallChance,
    onEnd: (wire: AcceptedSimWire) => void,
  ) {
    super(network, process, end, watcher, chance);
    this.#onEnd = onEnd;
  }

  replace(): void {
    this.#ownEnd.decide("REPLACED");
  }

  override sample(): SocketSample {
    return this.#ownEnd.seen(super.sample());
  }

  override takeSocketError(): string | undefined {
    return this.#ownEnd.untoldCode ?? super.takeSocketError();
  }

  override read(buffer: Uint8Array): Promise<number | null> {
    return this.#ownEnd.unlessDecided(() => super.read(buffer));
  }

  override write(bytes: Uint8Array): Promise<number> {
    return this.#ownEnd.unlessDecided(() => super.write(bytes));
  }

  override abort(): void {
    this.#onEnd(this);
    super.abort();
  }

  override close(): void {
    this.#onEnd(this);
    super.close();
  }
}
