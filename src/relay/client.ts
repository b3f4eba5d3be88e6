import { BackgroundWriter } from "../base/background_writer.ts";
import type { Clock, Logger } from "../base/ports.ts";
import type { PacketSplitter } from "../framing/splitter.ts";
import { InputPump, type InputPumpOptions } from "../framing/input_pump.ts";
import type { AcceptedEnd } from "../kernel/accepted_end.ts";
import type { RelayConnection } from "./options.ts";

/** What a relay has accepted. */
export interface Arrival {
  readonly connection: RelayConnection;
  /** How it ends; `undefined`: every end looks the same. */
  readonly end: AcceptedEnd | undefined;
}

/** Ends one that nothing was read from: its client is not to take that for an orderly end. */
export function turnAway({ connection, end }: Arrival): void {
  end?.reset();
  closeOnce(connection);
}

/** Of a connection or a listener, which its owner may have closed before: Deno throws then. */
export function closeOnce(one: { close(): void }): void {
  try {
    one.close();
  } catch {
    // It is closed, or nothing more can be done about it.
  }
}

export class Client {
  readonly name: string;
  readonly splitter: PacketSplitter;
  readonly pump: InputPump;
  readonly replies: BackgroundWriter;
  /**
   * When it last sent something, or that was stored; once it lingers, when it last took some of a
   * reply.
   */
  heardMs: number;
  /** Whether it has ended its side and is kept for replies. */
  lingers = false;
  /** Why it is ended, if by us. */
  endReason: string | undefined;
  readonly #arrival: Arrival;
  readonly #closed = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  #open = true;

  constructor(
    number: number,
    arrival: Arrival,
    splitter: PacketSplitter,
    pump: InputPumpOptions,
  ) {
    const { connection } = arrival;
    const { hostname, port } = connection.remoteAddr;
    this.name = `client ${number}` + (hostname === undefined ? "" : ` (${hostname}:${port})`);
    this.splitter = splitter;
    this.pump = new InputPump(pump);
    this.replies = new BackgroundWriter({
      write: async (bytes) => {
        const length = await connection.write(bytes);
        if (this.lingers) this.heardMs = pump.clock.nowMs();
        return length;
      },
    });
    this.heardMs = pump.clock.nowMs();
    this.#arrival = arrival;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Resolves once nothing is left of it. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  /**
   * Ends it: in order where it has ended its side and all of it is stored, and by a reset
   * otherwise. An orderly end is its only sign that it need not send anything again.
   */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    const { connection, end } = this.#arrival;
    if (this.pump.isAllStored(() => end?.clientHasEnded ?? false)) end?.permitOrder();
    else end?.reset();
    closeOnce(connection);
    this.#closed.resolve();
  }

  leave(): void {
    this.#gone.resolve();
  }
}

/** Within this time so many are told, and of further ones how many they were. */
const WINDOW_MS = 60_000;
const TOLD_ONES = 10;

/**
 * The warnings that a client can cause without a packet of it being stored. Whoever reaches the
 * port can make any number of them, and the log is not theirs.
 */
export class JunkLog {
  readonly #logger: Logger;
  readonly #clock: Clock;
  #beganMs = -Infinity;
  #told = 0;
  #heldBack = 0;
  #cancel: (() => void) | undefined;

  constructor(logger: Logger, clock: Clock) {
    this.#logger = logger;
    this.#clock = clock;
  }

  warn(words: string): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#beganMs >= WINDOW_MS) {
      this.end();
      this.#beganMs = nowMs;
      this.#told = 0;
    }
    if (this.#told < TOLD_ONES) {
      this.#told++;
      this.#logger.warn(words);
      return;
    }
    this.#heldBack++;
    this.#cancel ??= this.#clock.setTimer(this.#beganMs + WINDOW_MS - nowMs, () => this.end());
  }

  /** Says how many were held back. */
  end(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#heldBack === 0) return;
    const more = this.#heldBack === 1 ? "1 more warning" : `${this.#heldBack} more warnings`;
    this.#logger.warn(`${more} like the last ones about clients`);
    this.#heldBack = 0;
  }
}
