/**
 * The packets of the benchmark: a header that lets the sink check the order and
 * tell how long each packet took, then filler.
 *
 *     offset 0  uint32  number of the packet within its sender, from 0
 *     offset 4  uint32  number of the sender
 *     offset 8  float64 CLOCK_MONOTONIC at the call of enqueue, in milliseconds
 *
 * @module
 */

/** The least a packet can hold. */
export const HEADER_BYTES = 16;

/** Makes packets in one buffer, which the queue copies. */
export class PacketMaker {
  /** The packet; its header is what {@linkcode next} made of it. */
  readonly packet: Uint8Array;
  readonly #view: DataView;
  #number = 0;

  constructor(packetBytes: number, sender = 0) {
    this.packet = new Uint8Array(packetBytes).fill(0x2e);
    this.#view = new DataView(this.packet.buffer);
    this.#view.setUint32(4, sender, true);
  }

  /** How many were made. */
  get made(): number {
    return this.#number;
  }

  /** The next packet. */
  next(atMs = 0): Uint8Array {
    this.#view.setUint32(0, this.#number++, true);
    if (atMs !== 0) this.#view.setFloat64(8, atMs, true);
    return this.packet;
  }
}

/** Reads the stream back: every packet is looked at, whatever the reads cut it into. */
export class PacketChecker {
  readonly #packetBytes: number;
  readonly #onPacket: (number: number, sender: number, atMs: number) => void;
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);
  /** How much of the present packet has been read. */
  #offset = 0;

  constructor(
    packetBytes: number,
    onPacket: (number: number, sender: number, atMs: number) => void,
  ) {
    this.#packetBytes = packetBytes;
    this.#onPacket = onPacket;
  }

  /** Takes what was read. */
  take(chunk: Uint8Array): void {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    let at = 0;
    while (at < chunk.length) {
      if (this.#offset === 0 && chunk.length - at >= this.#packetBytes) {
        this.#report(view, at);
        at += this.#packetBytes;
        continue;
      }
      const part = Math.min(this.#packetBytes - this.#offset, chunk.length - at);
      if (this.#offset < HEADER_BYTES) {
        const headerPart = Math.min(HEADER_BYTES - this.#offset, part);
        this.#header.set(chunk.subarray(at, at + headerPart), this.#offset);
      }
      this.#offset += part;
      at += part;
      if (this.#offset === this.#packetBytes) {
        this.#offset = 0;
        this.#report(this.#headerView, 0);
      }
    }
  }

  #report(view: DataView, at: number): void {
    this.#onPacket(
      view.getUint32(at, true),
      view.getUint32(at + 4, true),
      view.getFloat64(at + 8, true),
    );
  }
}
