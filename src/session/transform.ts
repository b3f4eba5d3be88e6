/** Wire bytes that are made when a packet goes out. */

import { messageOf } from "../base/errors.ts";
import { placesOf } from "../base/packet_batch.ts";
import type { PacketBatch, StoredPacket } from "../base/ports.ts";
import type { Opened } from "./open.ts";

/**
 * The connection that a packet goes out on, for a {@linkcode Transform}.
 *
 * @category Session
 */
export interface TransformConnection {
  /** `"192.0.2.1:50123"`. */
  readonly localAddress: string;
  /** `"192.0.2.7:4000"`. */
  readonly remoteAddress: string;
  /** Counts this connection's packets, from 1 on, without gaps. */
  readonly sequence: number;
  /** What `session.open` has left here; it goes with the connection. */
  readonly state: ReadonlyMap<string, unknown>;
}

/**
 * Makes a packet's bytes on the wire from those that are stored.
 *
 * It is called once for each packet and connection, in order, just before the packet goes out;
 * one that is sent again is transformed again, on another connection and with another sequence
 * number. What it returns may depend on the packet, the connection and the time, and on nothing
 * that it remembers itself, for nobody tells it which packets were confirmed. It must not wait,
 * nor change the stored bytes, nor merge packets or leave one out, and what it returns belongs
 * to sendq.
 *
 * A packet for which it throws, or returns no byte, becomes a dead letter with reason
 * `"gave-up"`, 0 attempts and its words.
 *
 * @param packet As it is stored.
 * @param connection Where it goes.
 *
 * @category Session
 * @example A sequence number that begins with 1 on each connection
 * ```ts
 * import type { Transform } from "@sendq/sendq";
 *
 * // For Sender.open(queue, remote, { transform: numbered })
 * const numbered: Transform = ({ payload }, { sequence }) => {
 *   const wire = new Uint8Array(4 + payload.length);
 *   new DataView(wire.buffer).setUint32(0, sequence);
 *   wire.set(payload, 4);
 *   return wire;
 * };
 * ```
 */
export type Transform = (packet: StoredPacket, connection: TransformConnection) => Uint8Array;

/** Packets that go out. */
export interface OutgoingBatch extends PacketBatch {
  /** That of its only packet, where answers have keys: whoever says it is asked once. */
  readonly key?: string | number;
}

/** What became of a packet. */
export type Transformed =
  /** It goes as this batch of one. */
  | { readonly batch: OutgoingBatch }
  /** Nobody can send it. */
  | { readonly id: number; readonly error: Error };

/** Transforms the packets of one connection. */
export class Transformer {
  readonly #transform: Transform | undefined;
  readonly #keyOf: ((packet: Uint8Array) => string | number) | undefined;
  readonly #opened: Opened;
  #sequence = 1;

  /**
   * @param transform Undefined: the bytes stay as they are.
   * @param keyOf Throws where a packet has no key, and nobody could ever answer it.
   */
  constructor(
    transform: Transform | undefined,
    opened: Opened,
    keyOf?: (packet: Uint8Array) => string | number,
  ) {
    this.#transform = transform;
    this.#keyOf = keyOf;
    this.#opened = opened;
  }

  /** Transforms the first packet of a batch. */
  first(batch: PacketBatch): Transformed {
    const [place] = placesOf(batch);
    if (place === undefined) throw new RangeError("An empty batch.");
    const { id, start, end } = place;
    const { wire: { localAddress, remoteAddress }, state } = this.#opened;
    try {
      const payload = batch.bytes.subarray(start, end);
      const connection = { localAddress, remoteAddress, sequence: this.#sequence, state };
      const bytes: unknown = this.#transform === undefined
        ? payload
        : givenAtOnce(this.#transform({ id, payload }, connection), "it");
      if (!(bytes instanceof Uint8Array)) throw new TypeError("it returned no Uint8Array");
      if (bytes.length === 0) throw new RangeError("it returned no bytes");
      const key = this.#keyOf?.(bytes);
      this.#sequence++;
      const ends = Uint32Array.of(bytes.length);
      // It is on its way: whoever gives it a number cannot take that back.
      const one = { firstId: id, bytes, ends, expiresAtMs: Infinity };
      return { batch: key === undefined ? one : { ...one, key } };
    } catch (error) {
      return { id, error: new Error(messageOf(error), { cause: error }) };
    }
  }
}

/**
 * What a function of the user's has returned that is asked while packets go out.
 *
 * @param who The function, for words.
 * @throws {TypeError} A Promise, for which nobody can wait there; how it ends is nobody's business.
 */
export function givenAtOnce(given: unknown, who: string): unknown {
  if (!(given instanceof Promise)) return given;
  given.catch(() => {});
  throw new TypeError(`${who} returned a Promise: it has to answer at once`);
}
