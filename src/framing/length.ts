/** Packets that say their own length, in binary; or that all have the same one. */

import { hexOf } from "./byte_pattern.ts";
import { type Codec, type Passage, passageOf, type Scanner, type ScannerOptions } from "./codec.ts";
import { looksLikeText } from "./doubt.ts";
import type { Fail } from "./errors.ts";

/** Where in a packet its length stands, and what it counts. */
export interface LengthLayout {
  /** How many bytes the length takes; 0: it is 0 always, and `adjust` is the packet's. */
  readonly bytes: 0 | 1 | 2 | 4 | 8;
  readonly littleEndian: boolean;
  /** How many bytes stand before it. */
  readonly offset: number;
  /** What is added to it for the number of bytes behind it. */
  readonly adjust: number;
  readonly header: Uint8Array;
  readonly trailer: Uint8Array;
}

/** A layout, and what follows from it. */
class Layout {
  readonly form: string;
  readonly capacityBytes: number;
  readonly overheadBytes: number;
  /** Where the bytes behind the length begin. */
  readonly bodyStart: number;
  /** Bytes of the payload that stand before the length. */
  readonly prefixBytes: number;
  readonly minPayloadBytes: number;
  readonly spec: LengthLayout;

  constructor(spec: LengthLayout) {
    const { bytes, offset, adjust, header, trailer } = spec;
    this.spec = spec;
    this.form = formOf(spec);
    this.bodyStart = offset + bytes;
    this.prefixBytes = offset - header.length;
    this.overheadBytes = header.length + bytes + trailer.length;
    const most = Math.min(2 ** (8 * bytes) - 1, Number.MAX_SAFE_INTEGER);
    this.capacityBytes = this.prefixBytes + most + adjust - trailer.length;
    this.minPayloadBytes = this.prefixBytes + Math.max(0, adjust - trailer.length);
  }

  maxPayloadBytes(maxPacketBytes: number): number {
    return Math.min(maxPacketBytes - this.overheadBytes, this.capacityBytes);
  }

  encode(payload: Uint8Array): Uint8Array {
    const { bytes, littleEndian, offset, adjust, header, trailer } = this.spec;
    const packet = new Uint8Array(this.overheadBytes + payload.length);
    if (offset > 0) {
      packet.set(header);
      packet.set(payload.subarray(0, this.prefixBytes), header.length);
    }
    let rest = packet.length - this.bodyStart - adjust;
    for (let i = 0; i < bytes; i++) {
      packet[littleEndian ? offset + i : offset + bytes - 1 - i] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    const body = this.prefixBytes === 0 ? payload : payload.subarray(this.prefixBytes);
    packet.set(body, this.bodyStart);
    if (trailer.length > 0) packet.set(trailer, packet.length - trailer.length);
    return packet;
  }

  lengthIn(head: Uint8Array): number {
    const { bytes, littleEndian, offset } = this.spec;
    let length = 0;
    for (let i = 0; i < bytes; i++) {
      length = 256 * length + (head[littleEndian ? offset + bytes - 1 - i : offset + i] ?? 0);
    }
    return length;
  }

  /** How many bytes of a packet hold the first ones of its payload. */
  bytesFor(payloadBytes: number): number {
    return this.bodyStart + Math.max(0, payloadBytes - this.prefixBytes);
  }

  /** The first bytes of the payload, without a copy where none stand before the length. */
  payloadOf(part: Uint8Array, payloadBytes: number): Uint8Array {
    const body = part.subarray(this.bodyStart, this.bytesFor(payloadBytes));
    if (this.prefixBytes === 0) return body;
    const { offset, header } = this.spec;
    const payload = new Uint8Array(payloadBytes);
    payload.set(part.subarray(header.length, Math.min(offset, header.length + payloadBytes)));
    payload.set(body, payloadBytes - body.length);
    return payload;
  }
}

/** A layout written out in full. */
function formOf({ bytes, littleEndian, offset, adjust, header, trailer }: LengthLayout): string {
  if (bytes === 0) return `fixed:${adjust}`;
  return `length:${bytes}` + (littleEndian ? ",le" : "") +
    (offset === header.length ? "" : `,offset=${offset}`) +
    (adjust === 0 ? "" : `,adjust=${adjust}`) +
    (header.length === 0 ? "" : `,header=${hexOf(header)}`) +
    (trailer.length === 0 ? "" : `,trailer=${hexOf(trailer)}`);
}

export class LengthCodec implements Codec {
  readonly name: string;
  readonly forms: readonly string[];
  readonly unit = "packet";
  readonly capacityBytes: number;
  readonly overheadBytes: number;
  readonly layouts: readonly Layout[];
  readonly first: Layout;

  /**
   * @param layouts Those that a packet may have, told apart by what they begin with. A packet
   *   is made in the first one that can carry it.
   */
  constructor(layouts: readonly LengthLayout[], name?: string) {
    this.layouts = layouts.map((layout) => new Layout(layout));
    const [first] = this.layouts;
    if (first === undefined) throw new TypeError("A framing needs a layout.");
    this.first = first;
    this.forms = this.layouts.map(({ form }) => form);
    this.name = name ?? this.forms.join(" or ");
    this.capacityBytes = Math.max(...this.layouts.map(({ capacityBytes }) => capacityBytes));
    this.overheadBytes = Math.min(...this.layouts.map(({ overheadBytes }) => overheadBytes));
  }

  maxPayloadBytes(maxPacketBytes: number): number {
    return Math.max(...this.layouts.map((layout) => layout.maxPayloadBytes(maxPacketBytes)));
  }

  encode(payload: Uint8Array, fail: Fail): Uint8Array {
    const layout = this.layouts.find(({ capacityBytes }) => payload.length <= capacityBytes) ??
      this.first;
    if (payload.length < layout.minPayloadBytes) {
      const isFixed = layout.spec.bytes === 0;
      fail(
        "too-short",
        `this packet has ${payload.length} bytes, and ${this.name} framing needs ` +
          layout.minPayloadBytes +
          (isFixed ? "" : " or more: those before the length are the packet's own") +
          ". Choose another output framing, or write whole messages and choose chunks.",
      );
    }
    return layout.encode(payload);
  }

  doubt(bytes: Uint8Array): string | undefined {
    const layout = this.first;
    // One byte is a letter as often as it is a length.
    if (this.layouts.length > 1 || layout.spec.bytes < 2) return undefined;
    if (bytes.length < layout.bodyStart || !looksLikeText(bytes)) return undefined;
    const field = bytes.subarray(layout.spec.offset, layout.bodyStart);
    const length = layout.lengthIn(bytes);
    return `the length field reads ${JSON.stringify(new TextDecoder().decode(field))} as text, ` +
      `and would mean ${length} bytes: is it input "lines", and not "${this.name}"?`;
  }

  scanner(options: ScannerOptions): Scanner {
    return new LengthScanner(this, options);
  }
}

class LengthScanner implements Scanner {
  readonly #codec: LengthCodec;
  readonly #fail: Fail;
  readonly #passages: ReadonlyMap<Layout, Passage>;
  /** The bytes up to the end of the length, as far as they have come. */
  readonly #head: Uint8Array;
  #candidates: readonly Layout[];
  #layout: Layout;
  #passage: Passage;
  #seenBytes = 0;
  /** Known once the length has come. */
  #totalBytes: number | undefined;
  #isWhole = false;

  constructor(codec: LengthCodec, options: ScannerOptions) {
    const { first } = codec;
    this.#codec = codec;
    this.#fail = options.fail;
    this.#passages = new Map(
      codec.layouts.map((layout) => [layout, passageOf(layout.form, layout, options)]),
    );
    this.#head = new Uint8Array(Math.max(...codec.layouts.map(({ bodyStart }) => bodyStart)));
    this.#candidates = codec.layouts;
    this.#layout = first;
    this.#passage = passageOf(first.form, first, options);
  }

  get payloadBytes(): number {
    return this.#totalBytes === undefined ? 0 : this.#totalBytes - this.#layout.overheadBytes;
  }

  get passage(): Passage {
    return this.#passage;
  }

  get missingBytes(): number {
    return (this.#totalBytes ?? this.#layout.bodyStart) - this.#seenBytes;
  }

  get enoughBytes(): number {
    return this.#layout.bytesFor(this.#passage.maxPayloadBytes);
  }

  get wholeWords(): string {
    return this.#totalBytes === undefined
      ? `${this.#layout.bodyStart} bytes up to the end of its length field`
      : `${this.#totalBytes} bytes`;
  }

  get sizeWords(): string {
    return this.#layout.spec.bytes === 0
      ? `a packet of ${this.#codec.name} framing`
      : `this packet's length field says ${this.#layout.lengthIn(this.#head)} bytes, which`;
  }

  get sizeDoubt(): string | undefined {
    return this.#codec.doubt(this.#head);
  }

  feed(chunk: Uint8Array, start: number): number {
    if (this.#isWhole) this.#begin();
    let at = start;
    while (this.#totalBytes === undefined && at < chunk.length) {
      this.#head[this.#seenBytes++] = chunk[at++] ?? 0;
      this.#readHead();
    }
    if (this.#totalBytes === undefined) return -1;
    const length = Math.min(chunk.length - at, this.#totalBytes - this.#seenBytes);
    this.#checkTrailer(chunk, at, length, this.#totalBytes);
    this.#seenBytes += length;
    this.#isWhole = this.#seenBytes === this.#totalBytes;
    return this.#isWhole ? at + length : -1;
  }

  #begin(): void {
    this.#isWhole = false;
    this.#seenBytes = 0;
    this.#totalBytes = undefined;
    this.#candidates = this.#codec.layouts;
    // Which of several it is, is not known yet.
    if (this.#candidates.length > 1) this.#layout = this.#codec.first;
  }

  #readHead(): void {
    const at = this.#seenBytes - 1;
    const byte = this.#head[at];
    if (this.#candidates.length > 1 || at < this.#layout.spec.header.length) {
      this.#candidates = this.#candidates.filter(({ spec: { header } }) =>
        at >= header.length || header[at] === byte
      );
      const [layout] = this.#candidates;
      if (layout === undefined) this.#failHeader();
      this.#layout = layout;
      this.#passage = this.#passages.get(layout) ?? this.#passage;
    }
    if (this.#candidates.length > 1 || this.#seenBytes < this.#layout.bodyStart) return;
    const length = this.#layout.lengthIn(this.#head);
    const { spec: { adjust, trailer }, bodyStart } = this.#layout;
    if (length + adjust < trailer.length) {
      this.#fail(
        "malformed",
        `this packet's length field says ${length}, and ${trailer.length - adjust} is the least ` +
          `that it can say in ${this.#codec.name} framing. Check that the input framing is right.`,
      );
    }
    this.#totalBytes = bodyStart + length + adjust;
  }

  #failHeader(): never {
    const expected = this.#codec.layouts.map(({ spec: { header } }) => hexOf(header)).join(" or ");
    const came = hexOf(this.#head.subarray(0, this.#seenBytes));
    return this.#fail(
      "malformed",
      `a packet of ${this.#codec.name} framing begins with ${expected}, and ` +
        `${came} came. Check that the input framing is right.`,
    );
  }

  #checkTrailer(chunk: Uint8Array, at: number, length: number, totalBytes: number): void {
    const { trailer } = this.#layout.spec;
    // One that is too large is that in the first place, wherever its end may be.
    if (this.payloadBytes > this.#passage.maxPayloadBytes) return;
    for (let i = 0; i < trailer.length; i++) {
      const place = totalBytes - trailer.length + i - this.#seenBytes;
      if (place < 0 || place >= length || chunk[at + place] === trailer[i]) continue;
      this.#fail(
        "malformed",
        `this packet of ${totalBytes} bytes by its length field should end with ` +
          `${hexOf(trailer)}, and does not. Check that the input framing is right.`,
      );
    }
  }

  payload(packet: Uint8Array): Uint8Array {
    return this.#layout.payloadOf(packet, packet.length - this.#layout.overheadBytes);
  }

  beginning(part: Uint8Array, payloadBytes: number): Uint8Array | undefined {
    const isThere = this.#totalBytes !== undefined &&
      part.length >= this.#layout.bytesFor(payloadBytes);
    return isThere ? this.#layout.payloadOf(part, payloadBytes) : undefined;
  }
}
