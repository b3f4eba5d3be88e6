/**
 * Cuts a byte stream into packets, and puts packets into another framing where
 * asked. What comes out is what goes on the wire, framing included.
 *
 * Memory is bounded by the largest packet. Time is linear: each byte is looked at once.
 */

import { OptionError } from "../base/errors.ts";
import type { Codec, Scanner } from "./codec.ts";
import { FramingError, type FramingFault } from "./errors.ts";
import type { Framing } from "./framing.ts";
import { codecOf } from "./grammar.ts";

/**
 * What becomes of a packet that is larger than the limit:
 * - `"fail"`: it is a fault of the stream, which ends there
 * - `"skip"`: it is left out, and counted
 * - `"cut"`: only its beginning is taken, as much as fits, and it is counted
 *
 * @category Framing
 */
export type Oversize = "fail" | "skip" | "cut";

export interface SplitterOptions {
  readonly input: Framing;
  /** @default {input} */
  readonly output?: Framing;
  /** The largest packet on the wire, framing included. */
  readonly maxPacketBytes: number;
  /**
   * The most that the queue may hold: a larger packet would never be stored.
   *
   * @default {Infinity}
   */
  readonly maxBytes?: number;
  /**
   * What becomes of a larger one; a chunk that is too large becomes several.
   *
   * @default {"fail"}
   */
  readonly oversize?: Oversize;
  /**
   * Whether only what packets carry is wanted, in no framing.
   *
   * @default {false}
   */
  readonly payloadsOnly?: boolean;
}

/**
 * Cuts one input into packets, however its bytes arrive.
 *
 * @example Lines in, length-prefixed packets out
 * ```ts
 * import { PacketSplitter } from "./splitter.ts";
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
  readonly #input: Codec;
  readonly #output: Codec;
  readonly #scanner: Scanner;
  readonly #maxPacketBytes: number;
  /** What sets it. */
  readonly #limitedBy: "maxPacketBytes" | "maxBytes";
  readonly #oversize: Oversize;
  readonly #payloadsOnly: boolean;
  readonly #unfinished = new Unfinished();
  /** Where the packet at hand, and the chunk at hand, begin in the input. */
  #packetOffset = 0;
  #chunkOffset = 0;
  /** Whether the packet at hand is too large, and whether what is left of it is not wanted. */
  #isOversize = false;
  #leavesOut = false;
  #fault: FramingError | undefined;
  #oversizePackets = 0;
  #oversizeOffset = 0;
  #oversizeLimit = 0;
  /** What the first packet gave reason to doubt; `null`: it has not come yet. */
  #firstDoubt: string | undefined | null = null;

  /** @throws {OptionError} There is no such framing, or `maxPacketBytes` has no room for it. */
  constructor(options: SplitterOptions) {
    const { input, output = input, maxBytes = Infinity, oversize = "fail" } = options;
    this.#payloadsOnly = options.payloadsOnly ?? false;
    this.#input = codecOf(input, "input");
    this.#output = codecOf(output, "output");
    this.#oversize = oversize;
    const { name, overheadBytes } = this.#output;
    if (!(options.maxPacketBytes - overheadBytes >= 1)) {
      throw new OptionError(
        "maxPacketBytes",
        options.maxPacketBytes,
        `must be more than the ${overheadBytes} bytes that ${name} framing takes`,
      );
    }
    // A queue without room for any packet says so itself.
    const isOfQueue = maxBytes < options.maxPacketBytes && maxBytes > overheadBytes;
    this.#limitedBy = isOfQueue ? "maxBytes" : "maxPacketBytes";
    this.#maxPacketBytes = isOfQueue ? maxBytes : options.maxPacketBytes;
    this.#scanner = this.#input.scanner({
      output: this.#output,
      maxPacketBytes: this.#maxPacketBytes,
      fail: (reason, message) => this.#fail(reason, message),
    });
  }

  get marksEnds(): boolean {
    return this.#input.unit !== "chunk";
  }

  /**
   * What is wrong with the input. The `push` that met it still returns the whole packets before
   * it; every later `push` and `end` throws it.
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
    const done = this.#oversize === "cut" ? "cut to" : "skipped, for it is larger than";
    return `the ${this.#input.unit} at input byte ${this.#oversizeOffset} was ${done} ` +
      `${this.#oversizeLimit} bytes (${this.#oversizePackets} so far)`;
  }

  /**
   * How much may be read without reading beyond the packet that is not whole; 0: there is none.
   * Also of one that is left out: whoever reads on behind us is to begin with the next one.
   */
  get missingBytes(): number {
    const { length } = this.#unfinished;
    if (this.#leavesOut) return this.#scanner.missingBytes;
    if (length === 0) return 0;
    if (this.#isOversize) return Math.max(1, this.#scanner.enoughBytes - length);
    return this.#scanner.missingBytes;
  }

  /**
   * Why the input is most likely framed otherwise than was said. It is about the first packet:
   * whoever has had one that looks right is in the right framing.
   */
  get doubt(): string | undefined {
    if (this.#firstDoubt !== null) return this.#firstDoubt;
    return this.#unfinished.length === 0 ? undefined : this.#input.doubt?.(this.#unfinished.bytes);
  }

  /**
   * The packets that the next bytes complete. They may share the chunk's memory: store them
   * before its buffer is used again.
   *
   * @throws {FramingError} An earlier push met a `fault`.
   */
  push(chunk: Uint8Array): Uint8Array[] {
    if (this.#fault !== undefined) throw this.#fault;
    const packets: Uint8Array[] = [];
    try {
      this.#cut(chunk, packets);
    } catch (error) {
      if (!(error instanceof FramingError)) throw error;
      this.#fault = error;
    }
    return packets;
  }

  /**
   * The rest, for the input has ended: one packet or none. A last line without a newline is
   * given one, and so with any other delimiter.
   *
   * @throws {FramingError} It ended inside a packet, or had a `fault` before.
   */
  end(): Uint8Array[] {
    if (this.#fault !== undefined) throw this.#fault;
    const { length } = this.#unfinished;
    if (length === 0) return [];
    const { wholeWords } = this.#scanner;
    const completion = this.#isOversize ? undefined : this.#scanner.completion?.();
    if (completion === undefined) {
      this.#unfinished.take();
      this.#fail(
        "truncated",
        `the input ended inside this packet, after ${length} of ${wholeWords}. ` +
          `Check that the producer ended well and that the input framing is right.`,
      );
    }
    this.#unfinished.append(completion);
    const packets: Uint8Array[] = [];
    this.#finish(this.#unfinished.take(), packets);
    return packets;
  }

  #cut(chunk: Uint8Array, packets: Uint8Array[]): void {
    const scanner = this.#scanner;
    for (let start = 0; start < chunk.length;) {
      const end = scanner.feed(chunk, start);
      const to = end < 0 ? chunk.length : end;
      if (this.#leavesOut) {
        // Only its end is of interest.
      } else if (scanner.payloadBytes > scanner.passage.maxPayloadBytes) {
        this.#takeBeginning(chunk.subarray(start, to), packets);
      } else if (end < 0) {
        this.#unfinished.append(chunk.subarray(start));
      } else {
        this.#finish(this.#complete(chunk.subarray(start, end)), packets);
      }
      if (end >= 0) {
        this.#isOversize = this.#leavesOut = false;
        this.#packetOffset = this.#chunkOffset + end;
      }
      start = to;
    }
    this.#chunkOffset += chunk.length;
  }

  /** Deals with a packet that is too large, of which some more has come. */
  #takeBeginning(part: Uint8Array, packets: Uint8Array[]): void {
    const { passage: { maxPayloadBytes }, enoughBytes } = this.#scanner;
    this.#countOversize(maxPayloadBytes);
    if (this.#oversize === "skip") {
      this.#unfinished.take();
      this.#leavesOut = true;
      return;
    }
    this.#unfinished.append(part.subarray(0, Math.max(0, enoughBytes - this.#unfinished.length)));
    const beginning = this.#scanner.beginning(this.#unfinished.bytes, maxPayloadBytes);
    if (beginning === undefined) return;
    this.#unfinished.take();
    this.#leavesOut = true;
    this.#packCut(this.#shorten(beginning), packets);
  }

  #countOversize(limit: number): void {
    if (this.#oversize === "fail") this.#failTooLarge(limit);
    if (this.#isOversize) return;
    this.#isOversize = true;
    this.#oversizePackets++;
    this.#oversizeOffset = this.#packetOffset;
    this.#oversizeLimit = limit;
    this.#firstDoubt ??= this.#scanner.sizeDoubt ?? this.doubt;
  }

  /** The whole packet, given its last part. */
  #complete(last: Uint8Array): Uint8Array {
    if (this.#unfinished.length === 0) return last;
    this.#unfinished.append(last);
    return this.#unfinished.take();
  }

  /** From the input's framing to the output's; without a copy where they are the same. */
  #finish(packet: Uint8Array, packets: Uint8Array[]): void {
    if (this.#firstDoubt === null) {
      // Its size is in order now, its bytes may be strange.
      this.#firstDoubt = this.#input.doubt?.(packet.subarray(0, 1024));
    }
    const scanner = this.#scanner;
    if (scanner.isNothing) return;
    if (scanner.passage.passes && !this.#payloadsOnly) {
      packets.push(packet);
      return;
    }
    const payload = scanner.payload(packet);
    if (this.#payloadsOnly) {
      packets.push(payload);
      return;
    }
    const fitting = this.#shorten(payload);
    if (fitting.length === payload.length) {
      packets.push(this.#frame(payload));
      return;
    }
    this.#countOversize(fitting.length);
    if (this.#oversize === "cut") this.#packCut(fitting, packets);
  }

  /** Nothing may be left of one whose first byte does not fit. */
  #packCut(beginning: Uint8Array, packets: Uint8Array[]): void {
    const clear = this.#output.clear?.(beginning) ?? beginning;
    if (clear.length > 0) packets.push(this.#frame(clear));
  }

  #shorten(payload: Uint8Array): Uint8Array {
    return this.#output.shorten?.(payload, this.#maxPacketBytes) ?? payload;
  }

  #frame(payload: Uint8Array): Uint8Array {
    return this.#output.encode(payload, (reason, message) => this.#fail(reason, message));
  }

  #failTooLarge(limitBytes: number): never {
    const { sizeWords, sizeDoubt } = this.#scanner;
    const { capacityBytes, name } = this.#output;
    const [limit, advice] = limitBytes === capacityBytes
      ? [`${capacityBytes} bytes that ${name} framing can carry`, "Choose length32"]
      : [`${this.#limitedBy} = ${this.#maxPacketBytes}`, "Raise it"];
    const doubt = sizeDoubt ?? this.doubt;
    this.#fail(
      "too-large",
      `${sizeWords} exceeds ${limit}. ${advice}, or check that the input framing is right` +
        (doubt === undefined ? "." : `: ${doubt}`),
    );
  }

  #fail(reason: FramingFault, message: string): never {
    throw new FramingError(reason, this.#packetOffset, message);
  }
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
