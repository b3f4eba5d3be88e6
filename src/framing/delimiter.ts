/** Packets that each end with the same bytes: lines, NUL, CRLF. */

import { BytePattern, hexOf } from "./byte_pattern.ts";
import { type Codec, type Passage, passageOf, type Scanner, type ScannerOptions } from "./codec.ts";
import { doubtOfText } from "./doubt.ts";
import type { Fail } from "./errors.ts";

const NEWLINE = 10;

/** What the bytes are called in messages. */
function nameOf(delimiter: Uint8Array): string {
  if (delimiter.length === 1 && delimiter[0] === NEWLINE) return "newline";
  if (delimiter.length === 1 && delimiter[0] === 0) return "NUL byte";
  return `delimiter ${hexOf(delimiter)}`;
}

export class DelimiterCodec implements Codec {
  readonly name: string;
  readonly forms: readonly string[];
  readonly unit: "line" | "packet";
  readonly capacityBytes = Infinity;
  readonly overheadBytes: number;
  readonly pattern: BytePattern;

  /** @param delimiter At least one byte. */
  constructor(delimiter: Uint8Array, name?: string) {
    const form = `delimiter:${hexOf(delimiter)}`;
    this.name = name ?? form;
    this.forms = [form];
    this.unit = delimiter.at(-1) === NEWLINE ? "line" : "packet";
    this.overheadBytes = delimiter.length;
    this.pattern = new BytePattern(delimiter);
  }

  maxPayloadBytes(maxPacketBytes: number): number {
    return maxPacketBytes - this.overheadBytes;
  }

  encode(payload: Uint8Array, fail: Fail): Uint8Array {
    if (!this.pattern.endsOnlyBehind(payload)) {
      const several = this.unit === "line" ? "lines" : "packets";
      fail(
        "end-inside",
        `this packet has a ${nameOf(this.pattern.bytes)} inside and would become several ` +
          `${several}. Choose another output framing: one with a length, octet-counting, or a ` +
          "frame with an escape byte.",
      );
    }
    const packet = new Uint8Array(payload.length + this.overheadBytes);
    packet.set(payload);
    packet.set(this.pattern.bytes, payload.length);
    return packet;
  }

  clear(payload: Uint8Array): Uint8Array {
    return this.pattern.clearOf(payload);
  }

  doubt(bytes: Uint8Array): string | undefined {
    return doubtOfText(bytes, nameOf(this.pattern.bytes), this.pattern.bytes);
  }

  scanner(options: ScannerOptions): Scanner {
    return new DelimiterScanner(this, options);
  }
}

class DelimiterScanner implements Scanner {
  readonly passage: Passage;
  readonly sizeWords: string;
  readonly wholeWords = "";
  payloadBytes = 0;
  readonly #pattern: BytePattern;
  readonly #first: number;
  /** Bytes of the packet so far, and how much of the delimiter they end with. */
  #seenBytes = 0;
  #matched = 0;

  constructor(codec: DelimiterCodec, options: ScannerOptions) {
    this.passage = passageOf(codec.forms[0] ?? "", codec, options);
    this.sizeWords = `this ${codec.unit}`;
    this.#pattern = codec.pattern;
    this.#first = codec.pattern.bytes[0] ?? 0;
  }

  get missingBytes(): number {
    return this.#pattern.length - this.#matched;
  }

  get enoughBytes(): number {
    return this.passage.maxPayloadBytes;
  }

  feed(chunk: Uint8Array, start: number): number {
    let at = start;
    let matched = this.#matched;
    while (at < chunk.length) {
      if (matched === 0) {
        const next = chunk.indexOf(this.#first, at);
        if (next < 0) break;
        at = next;
      }
      matched = this.#pattern.step(matched, chunk[at++] ?? 0);
      if (matched < this.#pattern.length) continue;
      this.payloadBytes = this.#seenBytes + at - start - matched;
      this.#seenBytes = this.#matched = 0;
      return at;
    }
    this.#seenBytes += chunk.length - start;
    this.#matched = matched;
    this.payloadBytes = this.#seenBytes - matched;
    return -1;
  }

  payload(packet: Uint8Array): Uint8Array {
    return packet.subarray(0, packet.length - this.#pattern.length);
  }

  beginning(part: Uint8Array, payloadBytes: number): Uint8Array | undefined {
    return part.length < payloadBytes ? undefined : part.subarray(0, payloadBytes);
  }

  completion(): Uint8Array {
    // A delimiter that was begun is one.
    return this.#pattern.bytes.subarray(this.#matched);
  }
}
