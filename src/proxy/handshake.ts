/**
 * What is said to a proxy before the server is reached through it.
 *
 * Invariants:
 * 1. Not a byte is read beyond what the proxy says: the server's first ones may come in the
 *    same segment, and are its session's.
 * 2. How many bytes were written is known, so that they are never taken for a packet's.
 */

import { WireError } from "../base/errors.ts";
import type { Wire } from "../base/ports.ts";
import type { ProxyCredentials } from "../base/via.ts";
import { writeAll } from "../base/write_all.ts";

/** Reads and writes one wire that was just connected, and that nobody else reads from. */
export class ProxyHandshake {
  /** Everything that was said. */
  writtenBytes = 0;
  readonly #wire: Wire;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  /** @throws {WireError} */
  async write(bytes: Uint8Array): Promise<void> {
    this.writtenBytes += bytes.length;
    await writeAll(this.#wire, bytes);
  }

  /**
   * Reads exactly so many bytes.
   *
   * @throws {WireError} The proxy has ended the connection, or it has failed.
   */
  async read(count: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count;) {
      const read = await this.#wire.read(bytes.subarray(at));
      if (read === null) {
        throw new WireError("PROXY_CLOSED", "it ended the connection without an answer");
      }
      at += read;
    }
    return bytes;
  }
}

/** Whom a proxy is to connect to. */
export interface ProxyTarget {
  /** A name or an address, IPv6 without brackets. */
  readonly hostname: string;
  readonly port: number;
}

/** Speaks to a proxy until it says that the server is connected. */
export type Speak = (
  handshake: ProxyHandshake,
  target: ProxyTarget,
  credentials: ProxyCredentials | undefined,
) => Promise<void>;
