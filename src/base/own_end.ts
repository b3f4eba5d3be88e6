/**
 * Ends of a connection that this side decides, for a reason that is neither the server's nor the
 * path's, and how a wire tells of one.
 */

import { KernelCallError, WireError } from "./errors.ts";
import {
  type LocalFault,
  type SocketSample,
  TcpState,
  type TlsSession,
  type Wire,
  type WireOutcome,
} from "./ports.ts";

/** Codes of the `WireError` by which a wire says so, and words where it has none. */
const WORDS = {
  LAPSED: "this sender could not renew its right to send in time",
  REPLACED: "the server has connected anew",
  PREFERRED: "a preferred server is back",
  TLS_KEY_USED_UP: "TLS 1.2 needs a new connection for a new key",
} as const;

/** The same by any code; undefined: such an end is none of ours. */
export const OWN_END_WORDS: ReadonlyMap<string, string> = new Map(Object.entries(WORDS));

/** Whether this side has ended a connection, and who was told. */
export class OwnEnd {
  #error: WireError | undefined;
  /** Whether a read or a write has told of it. */
  #isTold = false;
  /** Reject the reads and writes that are pending. */
  readonly #rejects = new Set<(error: WireError) => void>();

  get isDecided(): boolean {
    return this.#error !== undefined;
  }

  /**
   * Whoever reads or writes learns that it is over; what the wire carries is theirs to send
   * again. Where nobody does, as behind the peer's FIN, it looks dead from now on.
   */
  decide(code: keyof typeof WORDS, words: string = WORDS[code]): void {
    const error = this.#error ??= new WireError(code, words);
    this.#isTold ||= this.#rejects.size > 0;
    for (const reject of this.#rejects) reject(error);
  }

  /** The outcome of a read or a write of the wire, as long as it is not over. */
  unlessDecided<Value>(call: () => Promise<Value>): Promise<Value> {
    const result = new Promise<Value>((resolve, reject) => {
      if (this.#error !== undefined) return reject(this.#error);
      this.#rejects.add(reject);
      const done = (): void => void this.#rejects.delete(reject);
      call().finally(done).then(resolve, reject);
    });
    // Whoever has moved on is not ended by it.
    result.catch(() => {});
    return result;
  }

  /** What the wire's reading is for who watches it. */
  seen(sample: SocketSample): SocketSample {
    return this.untoldCode === undefined ? sample : deadSample(sample);
  }

  /** What the wire's pending error is for who watches it; undefined: its own. */
  get untoldCode(): string | undefined {
    return this.#isTold ? undefined : this.#error?.code;
  }
}

/** A reading as that of a dead connection. */
export function deadSample(sample: SocketSample): SocketSample {
  return { ...sample, state: TcpState.CLOSE, hangup: true };
}

/**
 * Resets a connection that nobody will use.
 *
 * @returns Whether it was: where the kernel refuses that, too, it is closed, and what has been
 *   written may still arrive.
 */
export function abortQuietly(wire: Wire): boolean {
  try {
    wire.abort();
    return true;
  } catch (error) {
    if (!(error instanceof KernelCallError)) throw error;
    return false;
  }
}

/** A wire above another one, as which it behaves until this side ends it. */
export abstract class EndableWire implements Wire {
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly tls?: TlsSession;
  protected readonly wire: Wire;
  protected readonly ownEnd = new OwnEnd();

  constructor(wire: Wire) {
    this.wire = wire;
    this.localAddress = wire.localAddress;
    this.remoteAddress = wire.remoteAddress;
    if (wire.tls !== undefined) this.tls = wire.tls;
  }

  get minHoldMs(): number {
    return this.wire.minHoldMs ?? 0;
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.ownEnd.unlessDecided(() => this.wire.write(bytes));
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.ownEnd.unlessDecided(() => this.wire.read(buffer));
  }

  sample(): SocketSample {
    return this.ownEnd.seen(this.wire.sample());
  }

  takeSocketError(): string | undefined {
    return this.ownEnd.untoldCode ?? this.wire.takeSocketError();
  }

  askPeer(asking: boolean): void {
    this.wire.askPeer(asking);
  }

  localFault(): LocalFault | undefined {
    return this.wire.localFault();
  }

  noteLink(): void {
    this.wire.noteLink?.();
  }

  shutdownWrite(): void {
    this.wire.shutdownWrite();
  }

  concluded(outcome: WireOutcome): void {
    this.wire.concluded?.(outcome);
  }

  abort(): void {
    this.wire.abort();
  }

  close(): void {
    this.wire.close();
  }
}
