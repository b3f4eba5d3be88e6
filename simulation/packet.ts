/**
 * Packets that say who they are, and a reader that finds them in a stream.
 *
 * @module
 */

const HEADER_BYTES = 8;
/** The smallest packet: nothing but its header. */
export const MIN_PACKET_BYTES = HEADER_BYTES;

/** What a session says: messages in the form of packets, told apart by their tags. */
export const SESSION_TAGS = { login: 0xfffffff1, heartbeat: 0xfffffff2, goodbye: 0xfffffff3 };
const SESSION_BYTES: ReadonlyMap<number, number> = new Map([
  [SESSION_TAGS.login, 40],
  [SESSION_TAGS.heartbeat, 12],
  [SESSION_TAGS.goodbye, 17],
]);

/** The size of a session's message; undefined: the tag is a packet's. */
export function sessionBytesOf(tag: number): number | undefined {
  return SESSION_BYTES.get(tag);
}

/** A message of a session. */
export function sessionMessage(name: keyof typeof SESSION_TAGS): Uint8Array {
  const tag = SESSION_TAGS[name];
  return makePacket(tag, SESSION_BYTES.get(tag) ?? 0);
}

/** A packet: tag, length, and bytes that follow from the tag. */
export function makePacket(tag: number, sizeBytes: number): Uint8Array {
  const packet = new Uint8Array(sizeBytes);
  const view = new DataView(packet.buffer);
  view.setUint32(0, tag);
  view.setUint32(4, sizeBytes);
  for (let i = HEADER_BYTES; i < sizeBytes; i++) packet[i] = fillerAt(tag, i);
  return packet;
}

/** The tag of a whole packet. */
export function tagOf(packet: Uint8Array): number {
  return new DataView(packet.buffer, packet.byteOffset, packet.length).getUint32(0);
}

/** The packets that lie one behind the other in `bytes`. */
export function splitPackets(bytes: Uint8Array): Uint8Array[] {
  const packets: Uint8Array[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length;) {
    const size = view.getUint32(at + 4);
    if (size < HEADER_BYTES) throw new RangeError(`no packet at byte ${at}`);
    packets.push(bytes.subarray(at, at + size));
    at += size;
  }
  return packets;
}

function fillerAt(tag: number, index: number): number {
  return (tag * 7 + index) & 0xff;
}

/** Finds packets in a stream of whole packets. */
export class StreamReader {
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #checkBody: boolean;
  readonly #sizeOf: (tag: number) => number | undefined;
  #headerBytes = 0;
  #tag = 0;
  #size = 0;
  #at = 0;
  /** Bytes fed so far. */
  offset = 0;

  /** Where the message began whose header is not whole; the next one's begin otherwise. */
  get headerAt(): number {
    return this.offset - this.#headerBytes;
  }

  /** Whether the last byte that was fed was a message's last. */
  get isBetween(): boolean {
    return this.#headerBytes === 0;
  }

  /**
   * @param sizeOf The size of the packet with that tag, if there is one.
   * @param checkBody Whether each byte is looked at.
   */
  constructor(sizeOf: (tag: number) => number | undefined, checkBody: boolean) {
    this.#sizeOf = sizeOf;
    this.#checkBody = checkBody;
  }

  /**
   * Takes the next bytes of the stream.
   *
   * @param onStart Called with a packet's tag and its end offset once its header is here.
   * @param onEnd Called with its tag once all of it is here.
   * @returns What is wrong with the stream, if anything.
   */
  feed(
    bytes: Uint8Array,
    onStart: (tag: number, endOffset: number) => void,
    onEnd: (tag: number) => void,
  ): string | undefined {
    for (let i = 0; i < bytes.length;) {
      if (this.#headerBytes < HEADER_BYTES) {
        this.#header[this.#headerBytes++] = bytes[i] ?? 0;
        i++;
        this.offset++;
        if (this.#headerBytes < HEADER_BYTES) continue;
        const view = new DataView(this.#header.buffer);
        this.#tag = view.getUint32(0);
        this.#size = view.getUint32(4);
        this.#at = HEADER_BYTES;
        if (this.#sizeOf(this.#tag) !== this.#size) {
          return `no packet begins at offset ${this.offset - HEADER_BYTES}`;
        }
        onStart(this.#tag, this.offset - HEADER_BYTES + this.#size);
      }
      const length = Math.min(this.#size - this.#at, bytes.length - i);
      if (this.#checkBody) {
        for (let k = 0; k < length; k++) {
          if (bytes[i + k] !== fillerAt(this.#tag, this.#at + k)) {
            return `packet ${this.#tag} is damaged at offset ${this.offset + k}`;
          }
        }
      }
      i += length;
      this.#at += length;
      this.offset += length;
      if (this.#at === this.#size) {
        this.#headerBytes = 0;
        onEnd(this.#tag);
      }
    }
    return undefined;
  }
}
