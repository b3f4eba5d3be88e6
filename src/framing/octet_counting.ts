/** Syslog over TCP, RFC 6587: messages behind their octet count, or lines. */

import { hexOf } from "./byte_pattern.ts";
import { type Codec, type Passage, passageOf, type Scanner, type ScannerOptions } from "./codec.ts";
import { DelimiterCodec } from "./delimiter.ts";
import type { Fail } from "./errors.ts";

const NEWLINE = 10;
const SPACE = 32;
/** A count with more digits is none: they are enough for 9 GB. */
const MAX_DIGITS = 10;
const FORM = "octet-counting";
/** What else may come where both are read. */
const LINES = new DelimiterCodec(Uint8Array.of(NEWLINE), "lines");

export class OctetCountingCodec implements Codec {
  readonly name: string;
  readonly forms: readonly string[] = [FORM];
  readonly unit = "packet";
  readonly capacityBytes = 10 ** MAX_DIGITS - 1;
  readonly overheadBytes = 2;
  readonly #orLines: boolean;

  /** @param orLines Whether the input may have lines as well, told apart for each message. */
  constructor(name: string, orLines: boolean) {
    this.name = name;
    this.#orLines = orLines;
  }

  maxPayloadBytes(maxPacketBytes: number): number {
    let payloadBytes = maxPacketBytes - this.overheadBytes;
    while (payloadBytes > 0 && headerOf(payloadBytes).length + payloadBytes > maxPacketBytes) {
      payloadBytes--;
    }
    return Math.min(payloadBytes, this.capacityBytes);
  }

  encode(payload: Uint8Array, fail: Fail): Uint8Array {
    if (payload.length === 0) {
      fail(
        "empty",
        "this packet is empty, and no octet count may be 0 (RFC 6587). " +
          "Choose another output framing, or do not write empty packets.",
      );
    }
    const header = headerOf(payload.length);
    const packet = new Uint8Array(header.length + payload.length);
    for (let i = 0; i < header.length; i++) packet[i] = header.charCodeAt(i);
    packet.set(payload, header.length);
    return packet;
  }

  doubt(bytes: Uint8Array): string | undefined {
    const mayBeLine = this.#orLines && !/^[1-9]/.test(String.fromCharCode(bytes[0] ?? 0));
    return mayBeLine ? LINES.doubt(bytes) : undefined;
  }

  scanner(options: ScannerOptions): Scanner {
    return new OctetCountingScanner(this, this.#orLines, options);
  }
}

function headerOf(payloadBytes: number): string {
  return `${payloadBytes} `;
}

/**
 * Reads counts, and lines where they are allowed. As rsyslog does, a message is
 * taken for counted when it begins with digits and a space; an empty line is no
 * message.
 */
class OctetCountingScanner implements Scanner {
  readonly #orLines: boolean;
  readonly #fail: Fail;
  readonly #counted: Passage;
  readonly #lines: Passage;
  #state: "begin" | "digits" | "counted" | "line" = "begin";
  #isWhole = true;
  /** Bytes of the packet so far; those of its digits and the space; what they say. */
  #seenBytes = 0;
  #headBytes = 0;
  #count = 0;

  constructor(codec: OctetCountingCodec, orLines: boolean, options: ScannerOptions) {
    this.#orLines = orLines;
    this.#fail = options.fail;
    this.#counted = passageOf(FORM, codec, options);
    this.#lines = passageOf(LINES.forms[0] ?? "", LINES, options);
  }

  get payloadBytes(): number {
    if (this.#state === "counted") return this.#count;
    if (this.#state !== "line") return 0;
    return this.#seenBytes - (this.#isWhole ? 1 : 0);
  }

  get passage(): Passage {
    return this.#state === "line" ? this.#lines : this.#counted;
  }

  get isNothing(): boolean {
    return this.#state === "line" && this.payloadBytes === 0;
  }

  get missingBytes(): number {
    return this.#state === "counted" ? this.#headBytes + this.#count - this.#seenBytes : 1;
  }

  get enoughBytes(): number {
    return this.#headBytes + this.passage.maxPayloadBytes;
  }

  get wholeWords(): string {
    return this.#state === "counted"
      ? `${this.#headBytes + this.#count} bytes`
      : "its octet count and a space";
  }

  get sizeWords(): string {
    return this.#state === "line"
      ? "this line"
      : `this packet's octet count says ${this.#count} bytes, which`;
  }

  feed(chunk: Uint8Array, start: number): number {
    if (this.#isWhole) {
      this.#isWhole = false;
      this.#state = "begin";
      this.#seenBytes = this.#headBytes = this.#count = 0;
    }
    let at = start;
    while (at < chunk.length && (this.#state === "begin" || this.#state === "digits")) {
      const byte = chunk[at] ?? 0;
      const isDigit = byte >= (this.#state === "begin" ? 49 : 48) && byte <= 57;
      if (isDigit && this.#seenBytes < MAX_DIGITS) {
        this.#state = "digits";
        this.#count = 10 * this.#count + byte - 48;
      } else if (this.#state === "digits" && byte === SPACE) {
        this.#state = "counted";
        this.#headBytes = this.#seenBytes + 1;
      } else if (this.#orLines) {
        this.#state = "line";
        break; // It may be the newline itself.
      } else {
        this.#failCount(byte);
      }
      this.#seenBytes++;
      at++;
    }
    const end = this.#state === "counted"
      ? at + this.missingBytes
      : this.#state === "line"
      ? chunk.indexOf(NEWLINE, at) + 1 || Infinity
      : Infinity;
    this.#isWhole = end <= chunk.length;
    this.#seenBytes += (this.#isWhole ? end : chunk.length) - at;
    return this.#isWhole ? end : -1;
  }

  #failCount(byte: number): never {
    const behind = this.#state === "digits" ? `behind ${this.#count} ` : "";
    return this.#fail(
      "malformed",
      `an octet count was expected, digits from 1 on and a space, and ${behind}came ` +
        `${JSON.stringify(String.fromCharCode(byte))} (0x${hexOf([byte])}). ` +
        `If lines come as well, choose input "syslog"; or else check that the producer counts octets.`,
    );
  }

  payload(packet: Uint8Array): Uint8Array {
    return this.#state === "line"
      ? packet.subarray(0, packet.length - 1)
      : packet.subarray(this.#headBytes);
  }

  beginning(part: Uint8Array, payloadBytes: number): Uint8Array | undefined {
    const end = this.#headBytes + payloadBytes;
    return part.length < end ? undefined : part.subarray(this.#headBytes, end);
  }

  completion(): Uint8Array | undefined {
    const isLine = this.#state === "line" || (this.#orLines && this.#state === "digits");
    if (!isLine) return undefined;
    // Whoever asks takes it for whole from here on.
    this.#state = "line";
    this.#isWhole = true;
    this.#seenBytes++;
    return Uint8Array.of(NEWLINE);
  }
}
