/** Packets as they happen to arrive: nothing marks where one ends. */

import { type Codec, type Passage, passageOf, type Scanner, type ScannerOptions } from "./codec.ts";

export function chunksCodec(): Codec {
  return {
    name: "chunks",
    forms: ["chunks"],
    unit: "chunk",
    capacityBytes: Infinity,
    overheadBytes: 0,
    maxPayloadBytes: (maxPacketBytes) => maxPacketBytes,
    encode(payload, fail) {
      if (payload.length > 0) return payload;
      return fail(
        "empty",
        "this packet is empty, and an empty packet leaves no trace in an unframed output. " +
          "Choose another output framing.",
      );
    },
    scanner: (options) => new ChunkScanner(options),
  };
}

/** A chunk has no meaning of its own, so one that is too large becomes several. */
class ChunkScanner implements Scanner {
  readonly passage: Passage;
  readonly missingBytes = 0;
  readonly wholeWords = "";
  readonly sizeWords = "this chunk";
  payloadBytes = 0;

  constructor(options: ScannerOptions) {
    this.passage = passageOf("chunks", options.output, options);
  }

  get enoughBytes(): number {
    return this.passage.maxPayloadBytes;
  }

  feed(chunk: Uint8Array, start: number): number {
    const end = Math.min(chunk.length, start + this.enoughBytes);
    this.payloadBytes = end - start;
    return end;
  }

  payload(packet: Uint8Array): Uint8Array {
    return packet;
  }

  beginning(part: Uint8Array, payloadBytes: number): Uint8Array | undefined {
    return part.length < payloadBytes ? undefined : part.subarray(0, payloadBytes);
  }
}
