import { BackgroundWriter } from "../base/background_writer.ts";
import type { PacketSplitter } from "../framing/splitter.ts";
import { InputPump, type InputPumpOptions } from "../framing/input_pump.ts";
import type { RelayConnection } from "./options.ts";

/** One client of a relay. */
export class Client {
  readonly name: string;
  readonly splitter: PacketSplitter;
  readonly pump: InputPump;
  readonly replies: BackgroundWriter;
  /** When it last sent something; once it has ended its side, when it was last told something. */
  heardMs: number;
  /** Whether it has ended its side and is kept for replies. */
  lingers = false;
  /** Why it is ended, if by us. */
  endReason: string | undefined;
  readonly #connection: RelayConnection;
  readonly #closed = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  #open = true;

  constructor(
    number: number,
    connection: RelayConnection,
    splitter: PacketSplitter,
    nowMs: number,
    pump: InputPumpOptions,
  ) {
    const { hostname, port } = connection.remoteAddr;
    this.name = `client ${number}` + (hostname === undefined ? "" : ` (${hostname}:${port})`);
    this.splitter = splitter;
    this.pump = new InputPump(pump);
    this.replies = new BackgroundWriter(connection);
    this.heardMs = nowMs;
    this.#connection = connection;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Resolves once its connection is closed. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Resolves once nothing is left of it. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#connection.close();
    this.#closed.resolve();
  }

  leave(): void {
    this.#gone.resolve();
  }
}
