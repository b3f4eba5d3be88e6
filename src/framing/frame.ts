/** Packets between start and end bytes, with or without an escape byte. */

import { BytePattern, hexOf } from "./byte_pattern.ts";
import { type Codec, type Passage, passageOf, type Scanner, type ScannerOptions } from "./codec.ts";
import type { Fail } from "./errors.ts";

export interface FrameMarks {
  readonly start: Uint8Array;
  readonly end: Uint8Array;
  /** Stands before a byte that is to be taken for itself. */
  readonly escape: number | undefined;
  /** What such a byte is combined with by exclusive or. */
  readonly xor: number;
}

export class FrameCodec implements Codec {
  readonly name: string;
  readonly forms: readonly string[];
  readonly unit = "packet";
  readonly capacityBytes = Infinity;
  readonly overheadBytes: number;
  readonly marks: FrameMarks;
  readonly end: BytePattern;
  /** Bytes that a payload may have only behind the escape byte. */
  readonly #escaped: ReadonlySet<number>;

  /** @param marks Start and end have at least one byte. */
  constructor(marks: FrameMarks, name?: string) {
    const { start, end, escape, xor } = marks;
    const escaping = escape === undefined ? "" : `,escape=${hexOf([escape])},xor=${hexOf([xor])}`;
    const form = `frame:${hexOf(start)}/${hexOf(end)}${escaping}`;
    this.name = name ?? form;
    this.marks = marks;
    this.forms = [form];
    this.overheadBytes = start.length + end.length;
    this.end = new BytePattern(end);
    this.#escaped = new Set(escape === undefined ? [] : [escape, start[0] ?? 0, end[0] ?? 0]);
  }

  maxPayloadBytes(maxPacketBytes: number): number {
    return maxPacketBytes - this.overheadBytes;
  }

  encode(payload: Uint8Array, fail: Fail): Uint8Array {
    const { start, end } = this.marks;
    const body = this.#escape(payload);
    if (this.#escaped.size === 0 && !this.end.endsOnlyBehind(payload)) {
      fail(
        "end-inside",
        `this packet has the frame's end ${hexOf(end)} inside and would be read as a shorter ` +
          "one. Choose an escape byte, if the server knows one (frame:…,escape=10), or another " +
          "output framing.",
      );
    }
    const packet = new Uint8Array(body.length + this.overheadBytes);
    packet.set(start);
    packet.set(body, start.length);
    packet.set(end, start.length + body.length);
    return packet;
  }

  shorten(payload: Uint8Array, maxPacketBytes: number): Uint8Array {
    const most = this.maxPayloadBytes(maxPacketBytes);
    if (this.#escaped.size === 0) return payload;
    let bodyBytes = 0;
    const tooMuch = payload.findIndex((byte) => {
      bodyBytes += this.#escaped.has(byte) ? 2 : 1;
      return bodyBytes > most;
    });
    return tooMuch < 0 ? payload : payload.subarray(0, tooMuch);
  }

  clear(payload: Uint8Array): Uint8Array {
    return this.#escaped.size === 0 ? this.end.clearOf(payload) : payload;
  }

  /** With an escape byte where one is needed; the same bytes where none is. */
  #escape(payload: Uint8Array): Uint8Array {
    const { escape, xor } = this.marks;
    if (escape === undefined || !payload.some((byte) => this.#escaped.has(byte))) return payload;
    const body = new Uint8Array(2 * payload.length);
    let length = 0;
    for (const byte of payload) {
      const isEscaped = this.#escaped.has(byte);
      if (isEscaped) body[length++] = escape;
      body[length++] = isEscaped ? byte ^ xor : byte;
    }
    return body.subarray(0, length);
  }

  /** Without escape bytes; one at the end, whose byte has not come, is left out. */
  unescape(body: Uint8Array): Uint8Array {
    const { escape, xor } = this.marks;
    if (escape === undefined || !body.includes(escape)) return body;
    const payload = new Uint8Array(body.length);
    let length = 0;
    for (let i = 0; i < body.length; i++) {
      const isEscape = body[i] === escape;
      if (isEscape && ++i === body.length) break;
      payload[length++] = (body[i] ?? 0) ^ (isEscape ? xor : 0);
    }
    return payload.subarray(0, length);
  }

  scanner(options: ScannerOptions): Scanner {
    return new FrameScanner(this, options);
  }
}

class FrameScanner implements Scanner {
  readonly passage: Passage;
  readonly sizeWords = "this packet";
  readonly #codec: FrameCodec;
  readonly #fail: Fail;
  /** Whether the end begins with the escape byte, as in `DLE ETX`. */
  readonly #escapeEnds: boolean;
  #isWhole = false;
  /** Bytes of the packet so far. */
  #seenBytes = 0;
  #matched = 0;
  #escaping = false;
  #escapes = 0;

  constructor(codec: FrameCodec, options: ScannerOptions) {
    this.#codec = codec;
    this.#fail = options.fail;
    this.#escapeEnds = codec.marks.escape === codec.marks.end[0];
    this.passage = passageOf(codec.forms[0] ?? "", codec, options);
  }

  /** What goes out as it came counts with its escape bytes. */
  get payloadBytes(): number {
    const { start } = this.#codec.marks;
    const open = this.#matched + (this.#escaping ? 1 : 0);
    const body = this.#seenBytes - start.length - open;
    return Math.max(0, this.passage.passes ? body : body - this.#escapes);
  }

  get missingBytes(): number {
    const { start } = this.#codec.marks;
    if (this.#isWhole) return 0;
    return Math.max(0, start.length - this.#seenBytes) + this.#codec.end.length - this.#matched -
      (this.#escapeEnds && this.#escaping ? 1 : 0);
  }

  get enoughBytes(): number {
    return this.#codec.marks.start.length + this.passage.maxPayloadBytes + this.#escapes;
  }

  get wholeWords(): string {
    return `those up to its end ${hexOf(this.#codec.marks.end)}`;
  }

  feed(chunk: Uint8Array, start: number): number {
    if (this.#isWhole) {
      this.#isWhole = this.#escaping = false;
      this.#seenBytes = this.#matched = this.#escapes = 0;
    }
    let at = this.#feedStart(chunk, start);
    while (at < chunk.length) {
      at = this.#skipPlain(chunk, at);
      if (at === chunk.length) break;
      this.#seenBytes++;
      this.#feedByte(chunk[at++] ?? 0);
      if (this.#isWhole) return at;
    }
    return -1;
  }

  /** @returns Where the packet's body goes on. */
  #feedStart(chunk: Uint8Array, from: number): number {
    const { start } = this.#codec.marks;
    let at = from;
    for (; this.#seenBytes < start.length && at < chunk.length; at++) {
      const byte = chunk[at] ?? 0;
      if (byte !== start[this.#seenBytes]) {
        this.#fail(
          "malformed",
          `a packet of ${this.#codec.name} framing begins with ${hexOf(start)}, and ` +
            `${hexOf(start.subarray(0, this.#seenBytes))}${hexOf([byte])} came. ` +
            "Check that the input framing is right.",
        );
      }
      this.#seenBytes++;
    }
    return at;
  }

  /** Where no escape byte may come, all up to what may be the end is of no interest. */
  #skipPlain(chunk: Uint8Array, at: number): number {
    const { escape, end } = this.#codec.marks;
    if (escape !== undefined || this.#matched > 0) return at;
    const next = chunk.indexOf(end[0] ?? 0, at);
    const to = next < 0 ? chunk.length : next;
    this.#seenBytes += to - at;
    return to;
  }

  #feedByte(byte: number): void {
    const { escape, end } = this.#codec.marks;
    if (this.#escaping) {
      this.#escaping = false;
      if (this.#escapeEnds && byte === end[1]) {
        this.#matched = end.length;
        this.#isWhole = true;
      } else {
        this.#escapes++;
      }
      return;
    }
    if (byte === escape) {
      this.#escaping = true;
      this.#matched = 0;
      return;
    }
    this.#matched = this.#codec.end.step(this.#matched, byte);
    this.#isWhole = this.#matched === end.length;
  }

  payload(packet: Uint8Array): Uint8Array {
    const { start, end } = this.#codec.marks;
    return this.#codec.unescape(packet.subarray(start.length, packet.length - end.length));
  }

  beginning(part: Uint8Array, payloadBytes: number): Uint8Array | undefined {
    const body = part.subarray(this.#codec.marks.start.length);
    if (this.passage.passes) {
      return body.length < payloadBytes
        ? undefined
        : this.#codec.unescape(body.subarray(0, payloadBytes));
    }
    const payload = this.#codec.unescape(body);
    return payload.length < payloadBytes ? undefined : payload.subarray(0, payloadBytes);
  }
}
