/**
 * What can be wrong with a stream; see {@linkcode FramingError.reason}.
 *
 * @category Framing
 */
export type FramingFault =
  | "too-large"
  | "truncated"
  | "malformed"
  | "end-inside"
  | "too-short"
  | "empty";

/**
 * The input is not what its framing promises, or cannot be framed as asked.
 *
 * @category Framing
 */
export class FramingError extends Error {
  /** The class by name. */
  override readonly name = "FramingError";
  /**
   * What is wrong:
   * - `"too-large"`: the packet exceeds `maxPacketBytes` or its length field
   * - `"truncated"`: the input ended inside the packet
   * - `"malformed"`: its bytes are not what the input's framing prescribes
   * - `"end-inside"`: its bytes hold what marks the end of a packet on the wire
   * - `"too-short"`: it has fewer bytes than the wire's framing counts
   * - `"empty"`: it has no bytes, and the wire's framing cannot say so
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

/** Throws a {@linkcode FramingError} about the packet in question. */
export type Fail = (reason: FramingFault, message: string) => never;
