/**
 * The packets of the benchmark: a header that lets the sink check the order and
 * tell how long each packet took, then filler.
 *
 *     offset 0  uint32  number of the packet within its sender, from 0
 *     offset 4  uint32  number of the sender
 *     offset 8  float64 CLOCK_MONOTONIC at the call of enqueue, in milliseconds
 *
 * Peers that take nothing but lines get the number in ten digits.
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

/** Digits of a line's number. */
const NUMBER_DIGITS = 10;
const [ZERO, NEWLINE] = [0x30, 0x0a];

/** Makes printable lines, for peers that know nothing else: ten digits, filler, a newline. */
export class LineMaker {
  readonly #packetBytes: number;
  readonly #lines: Uint8Array;
  #number = 0;

  /**
   * @param packetBytes Of each line, its newline included.
   * @param packets Lines in one piece.
   */
  constructor(packetBytes: number, packets: number) {
    this.#packetBytes = packetBytes;
    this.#lines = new Uint8Array(packetBytes * packets).fill(0x2e);
    for (let i = packetBytes - 1; i < this.#lines.length; i += packetBytes) {
      this.#lines[i] = NEWLINE;
    }
  }

  /** The next lines, in one buffer that is used again. */
  next(): Uint8Array {
    for (let start = 0; start < this.#lines.length; start += this.#packetBytes) {
      let rest = this.#number++;
      for (let at = start + NUMBER_DIGITS - 1; at >= start; at--) {
        this.#lines[at] = ZERO + rest % 10;
        rest = Math.floor(rest / 10);
      }
    }
    return this.#lines;
  }
}

/** Reads the stream back: every packet is looked at, whatever the reads cut it into. */
export class PacketChecker {
  readonly #packetBytes: number;
  readonly #onPacket: (number: number, sender: number, atMs: number) => void;
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #lines: boolean;
  /** How much of the present packet has been read. */
  #offset = 0;

  constructor(
    packetBytes: number,
    onPacket: (number: number, sender: number, atMs: number) => void,
    lines = false,
  ) {
    this.#packetBytes = packetBytes;
    this.#onPacket = onPacket;
    this.#lines = lines;
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
    if (this.#lines) {
      let number = 0;
      for (let i = at; i < at + NUMBER_DIGITS; i++) number = 10 * number + view.getUint8(i) - ZERO;
      this.#onPacket(number, 0, 0);
      return;
    }
    this.#onPacket(
      view.getUint32(at, true),
      view.getUint32(at + 4, true),
      view.getFloat64(at + 8, true),
    );
  }
}
