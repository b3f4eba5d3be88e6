/** What a framing is to those who cut and frame. */

import type { Fail } from "./errors.ts";

/** A framing, ready for use. */
export interface Codec {
  /** As a person would write it. */
  readonly name: string;
  /**
   * The framings that its packets may be in, each written out in full. A packet in
   * one of those of the output goes out as it came.
   */
  readonly forms: readonly string[];
  /** What a packet of it is called in messages. */
  readonly unit: "line" | "packet" | "chunk";
  /** The most bytes of a payload that it can tell the length of. */
  readonly capacityBytes: number;
  /** What it adds to a small payload at least. */
  readonly overheadBytes: number;
  /** The largest payload that fits into a packet. */
  maxPayloadBytes(maxPacketBytes: number): number;
  /** Makes a packet; `fail` is told why the framing cannot carry these bytes. */
  encode(payload: Uint8Array, fail: Fail): Uint8Array;
  /**
   * The beginning of a payload that fits into a packet of this size, where that
   * depends on its bytes; the payload itself where all of it does.
   */
  shorten?(payload: Uint8Array, maxPacketBytes: number): Uint8Array;
  /** The beginning of a payload that was cut, without last bytes that begin an end. */
  clear?(payload: Uint8Array): Uint8Array;
  /** Why a stream is most likely framed otherwise, by its first packet, as far as that has come. */
  doubt?(bytes: Uint8Array): string | undefined;
  /** Makes what finds the ends of packets in one input. */
  scanner(options: ScannerOptions): Scanner;
}

export interface ScannerOptions {
  readonly output: Codec;
  readonly maxPacketBytes: number;
  /** Told that the input is not in this framing. */
  readonly fail: Fail;
}

/**
 * Finds the ends of packets, the same ones however the stream is cut; each byte is looked at
 * once. What it says is about the packet that the last {@linkcode feed} was given bytes of.
 */
export interface Scanner {
  /**
   * Goes on from `chunk[start]`.
   *
   * @returns Where in the chunk the packet ends; −1 where it goes on behind it.
   */
  feed(chunk: Uint8Array, start: number): number;
  /** The bytes of its payload: so many at least, and exactly once it is whole. */
  readonly payloadBytes: number;
  readonly passage: Passage;
  /** Whether it is nothing that has to be passed on. */
  readonly isNothing?: boolean;
  /** How many bytes may follow that surely are its own. */
  readonly missingBytes: number;
  /** How many bytes of the input are enough for the most of a payload that is taken. */
  readonly enoughBytes: number;
  /** What a whole packet carries. */
  payload(packet: Uint8Array): Uint8Array;
  /** So many bytes of its payload, from its first bytes; `undefined`: these are not enough. */
  beginning(part: Uint8Array, payloadBytes: number): Uint8Array | undefined;
  /** What makes it whole at the end of the input; `undefined`: nothing does. */
  completion?(): Uint8Array | undefined;
  /** How many bytes it should have had, in words. */
  readonly wholeWords: string;
  /** Who says how large it is, for "… exceeds": `"this line"`. */
  readonly sizeWords: string;
  /** Why a packet that is too large is most likely in another framing. */
  readonly sizeDoubt?: string | undefined;
}

/** How a packet goes out. */
export interface Passage {
  /** Whether it does as it came. */
  readonly passes: boolean;
  /** The most that its payload may have. */
  readonly maxPayloadBytes: number;
}

/** How a packet in one form goes out. */
export function passageOf(
  form: string,
  own: Pick<Codec, "maxPayloadBytes">,
  { output, maxPacketBytes }: ScannerOptions,
): Passage {
  const passes = output.forms.includes(form);
  return { passes, maxPayloadBytes: (passes ? own : output).maxPayloadBytes(maxPacketBytes) };
}
