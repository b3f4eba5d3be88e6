/**
 * The other direction: a server that connects to us. To the delivery it is a dialer whose
 * attempts wait for as long as it takes. One connection at a time is in use, as
 * `Arrivals` has it, and who is not on the list gets no byte.
 */

import { systemClock } from "../base/clock.ts";
import { OptionError } from "../base/errors.ts";
import { DELIVERY_OPTIONS } from "../base/option_table.ts";
import { checkOption } from "../base/options.ts";
import { OwnEnd } from "../base/own_end.ts";
import type { Dialer, SocketSample } from "../base/ports.ts";
import { formatRemote, normalizeHostname } from "../base/remote.ts";
import { AllowedPeers } from "./allowed_peers.ts";
import { Arrivals } from "./arrivals.ts";
import { nextDescriptorHint } from "./descriptor.ts";
import { adopt } from "./dialer.ts";
import { isOfOneClient, listenAt } from "./listen.ts";
import { loadLibc } from "./libc.ts";
import {
  type ResolvedSocketOptions,
  type SocketOptions,
  validateSocketOptions,
} from "./socket_options.ts";
import { TcpWire } from "./tcp_wire.ts";

/** A refused accept, for want of descriptors, is tried again after this. */
const ACCEPT_RETRY_MS = 250;

/**
 * Where and how `listenDialer` listens.
 *
 * @category Dialer
 */
export interface ListenDialerOptions {
  /** The address to listen on. */
  readonly hostname: string;
  /** 0 to 65,535; 0 picks a free one. */
  readonly port: number;
  /**
   * Who may connect: addresses and networks, such as `"192.0.2.7"` and `"10.0.0.0/8"`.
   * Others are closed without a byte.
   *
   * @default {undefined} everybody who reaches the address
   */
  readonly allowFrom?: readonly string[];
  /**
   * What a further connection does while one is in use: it takes its place
   * (`"replace"`: a server that was restarted comes back at once), or it is closed
   * (`"refuse"`).
   *
   * @default {"replace"}
   */
  readonly secondConnection?: "replace" | "refuse";
  /** How each connection's socket is tuned. */
  readonly socket?: SocketOptions;
  /** The path of the C library, where it is none of the known ones. */
  readonly libc?: string;
  /** What to set beside, unless the kernel refuses it. */
  readonly socketDefaults?: SocketOptions;
}

/**
 * A `Dialer` to which servers connect. It listens until it is disposed of.
 *
 * @category Dialer
 */
export interface ListenDialer extends Dialer, Disposable {
  /** Where it listens. */
  readonly addr: Deno.NetAddr;
  /** Waits for a connection, and tunes its socket; see `Dialer.dial`. */
  dial(signal: AbortSignal, onLookedUp?: () => void): Promise<TcpWire>;
}

/**
 * A dialer for a server that connects to us. Needs `--allow-net` for the address.
 *
 * @category Dialer
 * @throws {RangeError} Port or socket option out of range.
 * @throws {TypeError} A value is of the wrong type.
 * @throws {UnsupportedPlatformError} Not Linux on x86_64 or aarch64.
 * @throws {Deno.errors.AddrInUse} Somebody listens there already.
 * @throws {ListenError} It cannot listen there: this host does not have the address, for example.
 * @throws {Deno.errors.NotCapable} A permission is missing.
 *
 * @example
 * ```ts
 * import { listenDialer } from "@sendq/sendq/advanced";
 *
 * using dialer = listenDialer({ hostname: "127.0.0.1", port: 0, allowFrom: ["127.0.0.0/8"] });
 * const dialed = dialer.dial(AbortSignal.timeout(5000));
 * using server = await Deno.connect({ hostname: "127.0.0.1", port: dialer.addr.port });
 * const wire = await dialed;
 * await wire.write(new TextEncoder().encode("hello"));
 * await server.read(new Uint8Array(5));
 * wire.shutdownWrite();
 * wire.close();
 * ```
 */
export function listenDialer(options: ListenDialerOptions): ListenDialer {
  return readyToListen(options)();
}

/**
 * Checks everything that `listenDialer` would, and listens only when what it returns is
 * called: until then nobody is to be connected.
 */
export function readyToListen(options: ListenDialerOptions): () => ListenDialer {
  const {
    port,
    secondConnection = DELIVERY_OPTIONS.secondConnection.default,
    socket = {},
    socketDefaults = {},
  } = options;
  checkOption("secondConnection", DELIVERY_OPTIONS.secondConnection, secondConnection);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new OptionError("port", port, "must be an integer from 0 to 65535");
  }
  const checked: CheckedOptions = {
    hostname: normalizeHostname(options.hostname),
    port,
    allowed: new AllowedPeers(options.allowFrom),
    refusesSecond: secondConnection === "refuse",
    options: validateSocketOptions({ ...socketDefaults, ...socket }),
    asked: socket,
  };
  loadLibc(options.libc);
  return () => new Listening(checked);
}

interface CheckedOptions {
  readonly hostname: string;
  readonly port: number;
  readonly allowed: AllowedPeers;
  readonly refusesSecond: boolean;
  readonly options: ResolvedSocketOptions;
  readonly asked: SocketOptions;
}

class Listening implements ListenDialer {
  readonly waits = true;
  readonly remote: string;
  readonly addr: Deno.NetAddr;
  turnedAway: string | undefined;
  readonly #checked: CheckedOptions;
  readonly #arrivals: Arrivals<Deno.TcpConn>;
  /** Undefined: it rests. */
  #listener: Deno.TcpListener | undefined;
  /** Ends with the last listener, whose address is taken until then. */
  #accepting: Promise<void> = Promise.resolve();
  #cancelRetry: () => void = () => {};
  #isClosed = false;

  constructor(checked: CheckedOptions) {
    this.#checked = checked;
    this.#arrivals = new Arrivals(checked.refusesSecond);
    this.addr = this.#listen(checked).addr;
    this.remote = formatRemote({ ...this.addr, listen: true });
  }

  #listen(
    { hostname, port }: Pick<CheckedOptions, "hostname" | "port">,
  ): Deno.TcpListener {
    const listener = this.#listener = listenAt(
      formatRemote({ hostname, port, listen: true }),
      () => Deno.listen({ hostname, port }),
    );
    this.#accepting = this.#accept(listener);
    return listener;
  }

  async dial(signal: AbortSignal, onLookedUp?: () => void): Promise<TcpWire> {
    signal.throwIfAborted();
    onLookedUp?.();
    if (this.#listener === undefined) {
      await this.#listenAgain();
      signal.throwIfAborted();
    }
    const conn = await this.#arrivals.next(signal);
    try {
      const wire = adopt(
        conn,
        nextDescriptorHint(),
        this.#checked.options,
        this.#checked.asked,
        (...parts) => new AcceptedWire((ended) => this.#arrivals.ended(ended), ...parts),
      );
      this.#arrivals.use(wire);
      return wire;
    } catch (error) {
      conn.close(); // Nothing was written.
      throw error;
    }
  }

  resume(): void {
    // Why not is said by the next attempt.
    this.#listenAgain().catch(() => {});
  }

  async #listenAgain(): Promise<void> {
    const last = this.#accepting;
    await last;
    // There may have been another rest meanwhile, or somebody else was faster.
    const isFree = this.#listener === undefined && this.#accepting === last;
    if (isFree && !this.#isClosed) this.#listen(this.addr);
  }

  rest(): void {
    this.#cancelRetry();
    this.#listener?.close();
    this.#listener = undefined;
    this.#arrivals.close();
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.rest();
  }

  async #accept(listener: Deno.TcpListener): Promise<void> {
    while (this.#listener === listener) {
      try {
        const conn = await listener.accept();
        if (this.#listener === listener) this.#take(conn);
        else conn.close();
      } catch (error) {
        if (this.#listener !== listener) return;
        if (isOfOneClient(error)) continue;
        // Descriptors have run out.
        await new Promise<void>((resolve) => {
          const cancel = systemClock.setTimer(ACCEPT_RETRY_MS, resolve);
          this.#cancelRetry = () => {
            cancel();
            resolve();
          };
        });
      }
    }
  }

  #take(conn: Deno.TcpConn): void {
    const { hostname } = conn.remoteAddr;
    this.turnedAway = this.#checked.allowed.has(hostname) ? undefined : hostname;
    if (this.turnedAway === undefined) this.#arrivals.take(conn);
    else conn.close();
  }
}

/** A wire that another connection may take the place of. */
class AcceptedWire extends TcpWire {
  readonly #onEnd: (wire: AcceptedWire) => void;
  readonly #ownEnd = new OwnEnd();

  /** @param onEnd Told when this side ends it. */
  constructor(
    onEnd: (wire: AcceptedWire) => void,
    ...parts: ConstructorParameters<typeof TcpWire>
  ) {
    super(...parts);
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
