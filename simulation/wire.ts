/**
 * The sender's sockets: `Dialer` and `Wire` over the simulated kernel.
 *
 * @module
 */

import { WireError } from "../src/base/errors.ts";
import type { Dialer, LocalFault, SocketSample, Wire } from "../src/base/ports.ts";
import { TcpState } from "../src/base/ports.ts";
import { attemptError, type Network } from "./network.ts";
import type { SimProcess } from "./scheduler.ts";
import type { TcpEnd } from "./tcp.ts";

/** Who watches what a process does with its sockets; every method is optional work. */
export interface WireWatcher {
  dialed(): void;
  /** The process gave a look-up up that had taken so long. */
  lookUpGivenUp(waitedMs: number): void;
  opened(wire: SimWire): void;
  /** A connection has come that takes the place of the one in use. */
  arrived(): void;
  /** The kernel has taken these bytes. */
  written(wire: SimWire, bytes: Uint8Array): void;
  acked(wire: SimWire): void;
  /** A segment of the peer arrived, before its FIN. */
  heard(wire: SimWire): void;
  died(wire: SimWire): void;
  /** The process ends its side. */
  finishing(wire: SimWire): void;
  /** The process has given its descriptor back. */
  released(wire: SimWire, how: "abort" | "close" | "killed"): void;
}

/** What chance does to a process's system calls. */
export interface SyscallChance {
  /** How many of `bytes` a write takes: at least 1. */
  takes(bytes: number): number;
  /** How long the process's runtime takes to report a finished call; 0: at once. */
  lagMs(): number;
}

interface Pending<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: WireError) => void;
}

/** A dialer for one process. */
export class SimDialer implements Dialer {
  readonly remote = "tcp://server.example:4000";
  readonly #network: Network;
  readonly #process: SimProcess;
  readonly #watcher: WireWatcher;
  readonly #chance: SyscallChance;
  /** The connection made last. */
  wire: SimWire | undefined;

  /** Dials over `network` on behalf of `process`. */
  constructor(
    network: Network,
    process: SimProcess,
    watcher: WireWatcher,
    chance: SyscallChance,
  ) {
    this.#network = network;
    this.#process = process;
    this.#watcher = watcher;
    this.#chance = chance;
  }

  /** One attempt. */
  dial(signal: AbortSignal, onLookedUp: () => void = () => {}): Promise<SimWire> {
    this.#watcher.dialed();
    const startedAtMs = this.#network.scheduler.nowMs;
    let lookedUp = false;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const forget = this.#network.lookUpAndConnect(() => {
        lookedUp = true;
        if (this.#process.alive) this.#process.enter(onLookedUp);
      }, (outcome) => {
        if ("end" in outcome) {
          const wire = new SimWire(
            this.#network,
            this.#process,
            outcome.end,
            this.#watcher,
            this.#chance,
          );
          if (!this.#process.alive) return wire.kill();
          this.#process.enter(() => {
            signal.removeEventListener("abort", onAbort);
            // Aborted while the answer was on its way through the runtime.
            if (signal.aborted) wire.abort();
            else {
              this.wire = wire;
              this.#watcher.opened(wire);
              resolve(wire);
            }
          });
        } else {
          const { code } = outcome;
          this.#process.enter(() => {
            signal.removeEventListener("abort", onAbort);
            reject(attemptError(code));
          });
        }
      });
      const onAbort = (): void => {
        forget();
        const waitedMs = this.#network.scheduler.nowMs - startedAtMs;
        if (!lookedUp) this.#watcher.lookUpGivenUp(waitedMs);
        reject(signal.reason);
      };
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }
}

/** One connection of one process. */
export class SimWire implements Wire {
  readonly localAddress: string;
  readonly remoteAddress = "192.0.2.7:4000";
  /** The kernel's end. */
  readonly end: TcpEnd;
  /** Whose descriptor it is. */
  readonly process: SimProcess;
  readonly #network: Network;
  readonly #watcher: WireWatcher;
  readonly #chance: SyscallChance;
  /** Whether the process has its kernel ask the peer. */
  asking = false;
  #released = false;
  readonly #failed: { read?: WireError; write?: WireError } = {};
  #write: (Pending<number> & { readonly bytes: Uint8Array }) | undefined;
  #read: (Pending<number | null> & { readonly buffer: Uint8Array }) | undefined;

  /** Takes over an established end. */
  constructor(
    network: Network,
    process: SimProcess,
    end: TcpEnd,
    watcher: WireWatcher,
    chance: SyscallChance,
  ) {
    this.#network = network;
    this.#chance = chance;
    this.process = process;
    this.end = end;
    this.#watcher = watcher;
    this.localAddress = `192.0.2.1:${50_000 + end.connection}`;
    end.events = {
      readable: () => this.#wake(() => this.#tryRead()),
      writable: () => this.#wake(() => this.#tryWrite()),
      acked: () => watcher.acked(this),
      heard: () => watcher.heard(this),
      dead: () => watcher.died(this),
    };
  }

  /** Takes what fits into the send buffer, or waits until something does. */
  write(bytes: Uint8Array): Promise<number> {
    return handled((resolve, reject) => {
      if (this.#failed.write !== undefined) return reject(this.#failed.write);
      this.#write = { bytes, resolve, reject };
      this.#tryWrite();
    });
  }

  /** Takes what has arrived, or waits until something does. */
  read(buffer: Uint8Array): Promise<number | null> {
    return handled((resolve, reject) => {
      if (this.#failed.read !== undefined) return reject(this.#failed.read);
      this.#read = { buffer, resolve, reject };
      this.#tryRead();
    });
  }

  /** The kernel's counters. */
  sample(): SocketSample {
    if (this.#released) throw new TypeError("sample() after abort() or close()");
    return this.end.sample();
  }

  /** The pending error. */
  takeSocketError(): string | undefined {
    return this.end.takeSocketError();
  }

  /** Keepalive at one second, or as the socket options say. */
  askPeer(asking: boolean): void {
    if (this.#released) return;
    this.asking = asking;
    const asked = { idleMs: 1000, intervalMs: 1000, count: 9 };
    this.end.setKeepAlive(asking ? asked : this.end.options.keepAlive);
  }

  /** The layer above TCP fails, as TLS may; TCP goes on. */
  failAbove(what: "read" | "write"): void {
    if (this.#released) return;
    const error = this.#failed[what] = new WireError("EPROTO", "the layer above TCP has failed");
    const pending = what === "read" ? this.#read : this.#write;
    if (what === "read") this.#read = undefined;
    else this.#write = undefined;
    if (pending !== undefined) this.process.enter(() => pending.reject(error));
  }

  /** The fault of the sender's own host. */
  localFault(): LocalFault | undefined {
    return this.#network.localFault;
  }

  /** Our FIN. */
  shutdownWrite(): void {
    this.#watcher.finishing(this);
    this.end.shutdownWrite();
  }

  /** Reset. */
  abort(): void {
    this.#release("abort", () => this.end.abort());
  }

  /** FIN, or what the kernel makes of it. */
  close(): void {
    this.#release("close", () => this.end.close());
  }

  /** The process was killed: its kernel closes for it. */
  kill(): void {
    this.#release("killed", () => this.end.close());
  }

  #release(how: "abort" | "close" | "killed", end: () => void): void {
    if (this.#released) return;
    this.#released = true;
    this.#watcher.released(this, how);
    this.end.events = { readable() {}, writable() {}, acked() {}, dead() {} };
    end();
    if (how === "killed") return;
    const error = new WireError("ECANCELED", "The connection was given up here.");
    this.#write?.reject(error);
    this.#read?.reject(error);
    this.#write = undefined;
    this.#read = undefined;
  }

  #tryWrite(): void {
    const pending = this.#write;
    if (pending === undefined) return;
    const code = this.end.takeHardError() ?? (this.end.writeShut ? "EPIPE" : undefined);
    if (code !== undefined) {
      this.#write = undefined;
      return pending.reject(new WireError(code, `could not be written to: ${code}`));
    }
    const room = this.end.sendRoomBytes;
    if (room <= 0) return;
    const taken = this.#chance.takes(Math.min(room, pending.bytes.length));
    const bytes = pending.bytes.slice(0, taken);
    this.#write = undefined;
    this.#watcher.written(this, bytes);
    this.end.write(bytes);
    this.#report(() => pending.resolve(taken));
  }

  #tryRead(): void {
    const pending = this.#read;
    if (pending === undefined) return;
    const bytes = this.end.read(pending.buffer.length);
    if (bytes !== undefined) {
      this.#read = undefined;
      pending.buffer.set(bytes);
      return this.#report(() => pending.resolve(bytes.length));
    }
    // A FIN that was seen hides a later error from readers (section 3).
    const code = this.end.finReceived ? undefined : this.end.takeHardError();
    if (code !== undefined) {
      this.#read = undefined;
      return this.#report(() =>
        pending.reject(new WireError(code, `could not be read from: ${code}`))
      );
    }
    if (!this.end.finReceived && this.end.state !== TcpState.CLOSE) return;
    this.#read = undefined;
    this.#report(() => pending.resolve(null));
  }

  /** The runtime hears of the kernel's news, and only then does its call. */
  #wake(call: () => void): void {
    const lagMs = this.#chance.lagMs();
    if (lagMs === 0) this.process.enter(call);
    else this.#network.scheduler.after(lagMs, () => this.process.enter(call));
  }

  #report(tell: () => void): void {
    const lagMs = this.#chance.lagMs();
    if (lagMs === 0) tell();
    else this.#network.scheduler.after(lagMs, () => this.process.enter(tell));
  }
}

/** Like a real socket's operations: whoever has moved on is not ended by a rejection. */
function handled<T>(
  start: (resolve: (value: T) => void, reject: (error: WireError) => void) => void,
): Promise<T> {
  const promise = new Promise<T>(start);
  promise.catch(() => {});
  return promise;
}
