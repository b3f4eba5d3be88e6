/**
 * Cuts a byte stream into packets, and puts packets into another framing where
 * asked. What comes out is what goes on the wire, framing included.
 *
 * | framing | a packet on the wire |
 * |---|---|
 * | `lines` | its bytes and a newline (a carriage return before it belongs to the bytes) |
 * | `length16` | its length as 2 bytes, big-endian, then its bytes |
 * | `length32` | its length as 4 bytes, big-endian, then its bytes |
 * | `chunks` | its bytes; where it ends is not marked |
 *
 * @module
 */

import { OptionError } from "../base/errors.ts";

/**
 * How packets are told apart in a stream of bytes.
 *
 * @category Relay
 */
export type Framing = "lines" | "length16" | "length32" | "chunks";

/** Every {@linkcode Framing}, for messages and option lists. */
export const FRAMINGS: readonly Framing[] = ["lines", "length16", "length32", "chunks"];

/**
 * What becomes of a packet that is larger than the limit:
 * - `"fail"`: it is a fault of the stream, which ends there
 * - `"skip"`: it is left out, and counted
 * - `"cut"`: only its beginning is taken, as much as fits, and it is counted
 *
 * @category Relay
 */
export type Oversize = "fail" | "skip" | "cut";

/** Every {@linkcode Oversize}, for option lists. */
export const OVERSIZES: readonly Oversize[] = ["fail", "skip", "cut"];

/**
 * What can be wrong with a stream; see {@linkcode FramingError.reason}.
 *
 * @category Relay
 */
export type FramingFault = "too-large" | "truncated" | "newline-inside" | "empty";

/**
 * The input is not what its framing promises, or cannot be framed as asked.
 *
 * @category Relay
 */
export class FramingError extends Error {
  /** The class by name. */
  override readonly name = "FramingError";
  /**
   * What is wrong:
   * - `"too-large"`: the packet exceeds `maxPacketBytes` or its length field
   * - `"truncated"`: the input ended inside the packet
   * - `"newline-inside"`: its bytes hold a newline and cannot become a line
   * - `"empty"`: it has no bytes and cannot become a chunk
   */
  readonly reason: FramingFault;
  /** Where the packet begins in the input, in bytes from its start. */
  readonly offset: number;

  /**
   * Makes it.
   *
   * @param reason What is wrong.
   * @param offset Where the packet begins in the input.
   * @param message The reason in words, and what to do next.
   */
  constructor(reason: FramingFault, offset: number, message: string) {
    super(`Input byte ${offset}: ${message}`);
    this.reason = reason;
    this.offset = offset;
  }
}

/** How to cut; see {@linkcode PacketSplitter}. */
export interface SplitterOptions {
  /** How packets are told apart in the input. */
  readonly input: Framing;
  /**
   * How they are told apart on the wire.
   *
   * @default {input}
   */
  readonly output?: Framing;
  /** The largest packet on the wire, framing included. */
  readonly maxPacketBytes: number;
  /**
   * What becomes of a larger one. Chunks have no meaning of their own: one that
   * is too large becomes several.
   *
   * @default {"fail"}
   */
  readonly oversize?: Oversize;
}

const NEWLINE = 10;
/** From here on it is worth a word that no packet has become whole. */
const DOUBT_BYTES = 60 * 1024;
const LENGTH_BYTES = { length16: 2, length32: 4 } as const;

/** What a framing adds to a packet's bytes. */
const OVERHEAD_BYTES: { readonly [framing in Framing]: number } = {
  lines: 1,
  ...LENGTH_BYTES,
  chunks: 0,
};

/** The most that a framing can carry. */
const CAPACITY_BYTES: { readonly [framing in Framing]: number } = {
  lines: Infinity,
  length16: 2 ** 16 - 1,
  length32: 2 ** 32 - 1,
  chunks: Infinity,
};

/**
 * Cuts one input into packets, however its bytes arrive.
 *
 * @example Lines in, length-prefixed packets out
 * ```ts
 * import { PacketSplitter } from "./framing.ts";
 * import assert from "node:assert/strict";
 *
 * const splitter = new PacketSplitter({
 *   input: "lines",
 *   output: "length16",
 *   maxPacketBytes: 1024,
 * });
 * assert.deepEqual(splitter.push(new TextEncoder().encode("ab\ncd")), [
 *   new Uint8Array([0, 2, 97, 98]),
 * ]);
 * assert.deepEqual(splitter.end(), [new Uint8Array([0, 2, 99, 100])]);
 * ```
 */
export class PacketSplitter {
  readonly #input: Framing;
  readonly #output: Framing;
  readonly #maxPacketBytes: number;
  readonly #oversize: Oversize;
  /** The most payload that input, output and limit leave room for. */
  readonly #maxPayloadBytes: number;
  readonly #unfinished = new Unfinished();
  #packetOffset = 0;
  #fault: FramingError | undefined;
  #oversizePackets = 0;
  #oversizeOffset = 0;
  /** What is to be left out: so many bytes, or all up to a newline. */
  #leftOut: number | "line" = 0;

  /**
   * Makes it.
   *
   * @param options Input, output, limit.
   * @throws {OptionError} `maxPacketBytes` has no room for the output's framing.
   */
  constructor({ input, output = input, maxPacketBytes, oversize = "fail" }: SplitterOptions) {
    this.#input = input;
    this.#oversize = oversize;
    this.#output = output;
    this.#maxPacketBytes = maxPacketBytes;
    const roomBytes = maxPacketBytes - OVERHEAD_BYTES[output];
    if (!(roomBytes >= 1)) {
      throw new OptionError(
        "maxPacketBytes",
        maxPacketBytes,
        `must be more than the ${OVERHEAD_BYTES[output]} bytes that ${output} framing takes`,
      );
    }
    this.#maxPayloadBytes = Math.min(roomBytes, CAPACITY_BYTES[output]);
  }

  /**
   * What is wrong with the input. Set by the `push` that met it, which still
   * returns the whole packets before it; every later `push` and `end` throws it.
   */
  get fault(): FramingError | undefined {
    return this.#fault;
  }

  /** Bytes taken in of a packet that is not whole yet. */
  get unfinishedBytes(): number {
    return this.#unfinished.length;
  }

  /** Packets that were skipped or cut for their size. */
  get oversizePackets(): number {
    return this.#oversizePackets;
  }

  /** The last of them in words; undefined: there was none. */
  get oversizeWords(): string | undefined {
    if (this.#oversizePackets === 0) return undefined;
    const what = this.#input === "lines" ? "line" : "packet";
    const done = this.#oversize === "cut" ? "cut to" : "skipped, for it is larger than";
    return `the ${what} at input byte ${this.#oversizeOffset} was ${done} ` +
      `${this.#maxPayloadBytes} bytes (${this.#oversizePackets} so far)`;
  }

  /**
   * How much may be read without reading beyond the packet that is not whole;
   * 0 when there is none. Whoever wants to stop at its end reads no more than this.
   */
  get missingBytes(): number {
    const { length, bytes } = this.#unfinished;
    if (length === 0) return 0;
    if (this.#input === "lines" || this.#input === "chunks") return 1;
    const headerBytes = LENGTH_BYTES[this.#input];
    if (length < headerBytes) return headerBytes - length;
    return headerBytes + this.#payloadToTake(readLength(bytes, headerBytes)) - length;
  }

  /**
   * Why the input is most likely framed otherwise than was said; undefined as
   * long as there is no reason to think so. A stream in another framing may
   * never contain the end of a packet: it would be taken in without a word.
   */
  get doubt(): string | undefined {
    const { length, bytes } = this.#unfinished;
    if (this.#input === "chunks" || length === 0) return undefined;
    if (this.#input === "lines") {
      if (length < DOUBT_BYTES) return undefined;
      return `${Math.floor(length / 1024)} KiB and no newline: ${guessOf(bytes)}`;
    }
    const headerBytes = LENGTH_BYTES[this.#input];
    if (length < headerBytes || !bytes.subarray(0, 64).every(isText)) return undefined;
    const text = JSON.stringify(new TextDecoder().decode(bytes.subarray(0, headerBytes)));
    return `the length field reads ${text} as text, and would mean ` +
      `${readLength(bytes, headerBytes)} bytes: is the input lines, and not ${this.#input}?`;
  }

  /**
   * Takes in the next bytes.
   *
   * @param chunk Any number of bytes, cut anywhere.
   * @returns The packets that they complete. They may share the chunk's memory:
   *   store them before its buffer is used again.
   * @throws {FramingError} An earlier push met a {@linkcode fault}.
   */
  push(chunk: Uint8Array): Uint8Array[] {
    if (this.#fault !== undefined) throw this.#fault;
    const packets: Uint8Array[] = [];
    try {
      if (this.#input === "chunks") this.#cutChunk(chunk, packets);
      else if (this.#input === "lines") this.#cutLines(chunk, packets);
      else this.#cutLengths(chunk, LENGTH_BYTES[this.#input], packets);
    } catch (error) {
      if (!(error instanceof FramingError)) throw error;
      this.#fault = error;
    }
    return packets;
  }

  /**
   * Says that the input has ended. A last line without a newline is given one.
   *
   * @returns The rest: one packet or none.
   * @throws {FramingError} The input ended inside a packet, or had a
   *   {@linkcode fault} before.
   */
  end(): Uint8Array[] {
    if (this.#fault !== undefined) throw this.#fault;
    const unfinished = this.#unfinished.take();
    if (unfinished.length === 0) return [];
    if (this.#input === "lines") {
      const line = new Uint8Array(unfinished.length + 1);
      line.set(unfinished);
      line[unfinished.length] = NEWLINE;
      return [this.#reframe(line, 0, line.length - 1)];
    }
    const headerBytes = OVERHEAD_BYTES[this.#input];
    const whole = unfinished.length < headerBytes
      ? `${headerBytes} bytes of its length field`
      : `${headerBytes + readLength(unfinished, headerBytes)} bytes`;
    this.#fail(
      "truncated",
      `the input ended inside this packet, after ${unfinished.length} of ${whole}. ` +
        `Check that the producer ended well and that the input framing is right.`,
    );
  }

  #cutLines(chunk: Uint8Array, packets: Uint8Array[]): void {
    for (let start = this.#leaveOut(chunk, 0); start < chunk.length;) {
      if (this.#leftOut === "line") {
        start = this.#leaveOut(chunk, start);
        continue;
      }
      const newline = chunk.indexOf(NEWLINE, start);
      const end = newline < 0 ? chunk.length : newline + 1;
      const payloadBytes = this.#unfinished.length + (newline < 0 ? end : newline) - start;
      if (payloadBytes > this.#maxPayloadBytes) {
        if (this.#oversize === "fail") this.#failTooLarge("this line");
        start += this.#shorten(chunk.subarray(start), packets);
        this.#leftOut = "line";
        continue;
      }
      if (newline < 0) return this.#unfinished.append(chunk.subarray(start));
      const line = this.#complete(chunk.subarray(start, end));
      packets.push(this.#reframe(line, 0, line.length - 1));
      start = end;
    }
  }

  #cutLengths(chunk: Uint8Array, headerBytes: number, packets: Uint8Array[]): void {
    for (let start = this.#leaveOut(chunk, 0); start < chunk.length;) {
      const missingHeaderBytes = headerBytes - this.#unfinished.length;
      if (missingHeaderBytes > chunk.length - start) {
        return this.#unfinished.append(chunk.subarray(start));
      }
      if (missingHeaderBytes > 0 && this.#unfinished.length > 0) {
        this.#unfinished.append(chunk.subarray(start, start + missingHeaderBytes));
        start += missingHeaderBytes;
      }
      const head = this.#unfinished.length > 0 ? this.#unfinished.bytes : chunk.subarray(start);
      const payloadBytes = readLength(head, headerBytes);
      if (payloadBytes > this.#maxPayloadBytes && this.#oversize === "fail") {
        this.#failTooLarge(`this packet's length field says ${payloadBytes} bytes, which`);
      }
      const takenBytes = this.#payloadToTake(payloadBytes);
      const end = start + headerBytes + takenBytes - this.#unfinished.length;
      if (end > chunk.length) return this.#unfinished.append(chunk.subarray(start));
      const packet = this.#complete(chunk.subarray(start, end));
      start = end;
      if (takenBytes === payloadBytes) {
        packets.push(this.#reframe(packet, headerBytes, packet.length));
        continue;
      }
      this.#countOversize();
      // Its own length field is no longer true.
      if (this.#oversize === "cut") packets.push(this.#frame(packet.subarray(headerBytes)));
      this.#packetOffset += packet.length;
      this.#leftOut = payloadBytes - takenBytes;
      start = this.#leaveOut(chunk, start);
    }
  }

  /** How much of a packet's payload is taken in. */
  #payloadToTake(payloadBytes: number): number {
    if (payloadBytes <= this.#maxPayloadBytes) return payloadBytes;
    return this.#oversize === "cut" ? this.#maxPayloadBytes : 0;
  }

  /**
   * Takes as much of a line as fits, or nothing.
   *
   * @param rest Its bytes, from those on that were not taken in before.
   * @returns How many of them are dealt with.
   */
  #shorten(rest: Uint8Array, packets: Uint8Array[]): number {
    this.#countOversize();
    const before = this.#unfinished.length;
    const more = this.#oversize === "cut" ? this.#maxPayloadBytes - before : 0;
    const beginning = this.#complete(rest.subarray(0, more));
    if (this.#oversize === "cut") packets.push(this.#frame(beginning));
    this.#packetOffset += before + more;
    return more;
  }

  #countOversize(): void {
    this.#oversizePackets++;
    this.#oversizeOffset = this.#packetOffset;
  }

  /** @returns Where in the chunk what is left out ends. */
  #leaveOut(chunk: Uint8Array, start: number): number {
    let end = start;
    if (this.#leftOut === "line") {
      const newline = chunk.indexOf(NEWLINE, start);
      end = newline < 0 ? chunk.length : newline + 1;
      if (newline >= 0) this.#leftOut = 0;
    } else {
      end = Math.min(chunk.length, start + this.#leftOut);
      this.#leftOut -= end - start;
    }
    this.#packetOffset += end - start;
    return end;
  }

  /** A chunk has no meaning of its own, so one that is too large is simply cut. */
  #cutChunk(chunk: Uint8Array, packets: Uint8Array[]): void {
    for (let start = 0; start < chunk.length;) {
      const end = Math.min(chunk.length, start + this.#maxPayloadBytes);
      packets.push(this.#reframe(chunk.subarray(start, end), 0, end - start));
      start = end;
    }
  }

  /** The whole packet, given its last part. */
  #complete(last: Uint8Array): Uint8Array {
    if (this.#unfinished.length === 0) return last;
    this.#unfinished.append(last);
    return this.#unfinished.take();
  }

  /** From the input's framing to the output's; without a copy where they are the same. */
  #reframe(packet: Uint8Array, payloadStart: number, payloadEnd: number): Uint8Array {
    const framed = this.#output === this.#input
      ? packet
      : this.#frame(packet.subarray(payloadStart, payloadEnd));
    this.#packetOffset += packet.length;
    return framed;
  }

  #frame(payload: Uint8Array): Uint8Array {
    return frame(payload, this.#output, (reason, message) => this.#fail(reason, message));
  }

  #failTooLarge(what: string): never {
    const capacityBytes = CAPACITY_BYTES[this.#output];
    const [limit, advice] = this.#maxPayloadBytes === capacityBytes
      ? [`${capacityBytes} bytes that ${this.#output} framing can carry`, "Choose length32"]
      : [`maxPacketBytes = ${this.#maxPacketBytes}`, "Raise it"];
    this.#fail(
      "too-large",
      `${what} exceeds ${limit}. ${advice}, or check that the input framing is right.`,
    );
  }

  #fail(reason: FramingFault, message: string): never {
    throw new FramingError(reason, this.#packetOffset, message);
  }
}

/**
 * Makes one packet of some bytes.
 *
 * @param payload The bytes.
 * @param output How the packet is told apart on the wire.
 * @throws {FramingError} The framing cannot carry them.
 */
export function framePacket(payload: Uint8Array, output: Framing): Uint8Array {
  const fail = (reason: FramingFault, message: string): never => {
    throw new FramingError(reason, 0, message);
  };
  if (payload.length > CAPACITY_BYTES[output]) {
    fail(
      "too-large",
      `this packet of ${payload.length} bytes exceeds ${CAPACITY_BYTES[output]} bytes that ` +
        `${output} framing can carry. Choose length32.`,
    );
  }
  return frame(payload, output, fail);
}

/** Puts bytes into a framing that can carry them. */
function frame(
  payload: Uint8Array,
  output: Framing,
  fail: (reason: FramingFault, message: string) => never,
): Uint8Array {
  switch (output) {
    case "chunks":
      if (payload.length > 0) return payload;
      return fail(
        "empty",
        "this packet is empty, and an empty packet leaves no trace in an unframed output. " +
          "Choose another output framing.",
      );
    case "lines": {
      if (payload.includes(NEWLINE)) {
        fail(
          "newline-inside",
          "this packet has a newline inside and would become several lines. " +
            "Choose another output framing.",
        );
      }
      const line = new Uint8Array(payload.length + 1);
      line.set(payload);
      line[payload.length] = NEWLINE;
      return line;
    }
    case "length16":
    case "length32": {
      const headerBytes = LENGTH_BYTES[output];
      const packet = new Uint8Array(headerBytes + payload.length);
      const header = new DataView(packet.buffer);
      if (headerBytes === 2) header.setUint16(0, payload.length);
      else header.setUint32(0, payload.length);
      packet.set(payload, headerBytes);
      return packet;
    }
    default:
      throw new TypeError(`Unknown framing ${JSON.stringify(output satisfies never)}`);
  }
}

/** A byte that is not often found in what is no text: ASCII, a tabulator, an end of line. */
function isText(byte: number): boolean {
  return (byte >= 32 && byte < 127) || byte === 9 || byte === 10 || byte === 13;
}

/** What a stream without newlines may be. */
function guessOf(bytes: Uint8Array): string {
  const head = new TextDecoder().decode(bytes.subarray(0, 8));
  if (/^\d+ </.test(head)) {
    return "it begins like syslog with octet counting; have its sender end each message with a newline";
  }
  if (bytes[0] === 0) return "it begins with a zero byte; is the input length16 or length32?";
  if (bytes.includes(0)) return "it has NUL bytes; does its sender end each packet with NUL?";
  return "does its sender end each packet with a newline?";
}

function readLength(packet: Uint8Array, headerBytes: number): number {
  const view = new DataView(packet.buffer, packet.byteOffset, headerBytes);
  return headerBytes === 2 ? view.getUint16(0) : view.getUint32(0);
}

/** Gathers a packet that arrives in parts; each byte is copied twice at most, on average. */
class Unfinished {
  #buffer = new Uint8Array(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  append(part: Uint8Array): void {
    const length = this.#length + part.length;
    if (length > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(length, 2 * this.#buffer.length));
      grown.set(this.bytes);
      this.#buffer = grown;
    }
    this.#buffer.set(part, this.#length);
    this.#length = length;
  }

  /** Hands the bytes out for good and starts anew. */
  take(): Uint8Array {
    const { bytes } = this;
    this.#buffer = new Uint8Array(0);
    this.#length = 0;
    return bytes;
  }
}
