/**
 * Bytes that are written as text, and what a server's answer is held against.
 *
 * @module
 */

/** How much of what a server said is shown. */
const MAX_SHOWN_BYTES = 200;
const CARRIAGE_RETURN = 13;
const LINE_FEED = 10;
const TAB = 9;

/**
 * Bytes as they are, or text, which stands for its UTF-8.
 *
 * @category Session
 */
export type Bytes = string | Uint8Array;

/**
 * What to look for in a server's answer.
 *
 * - text or bytes: the answer begins with them
 * - a `RegExp`: it is found anywhere in what has come, each byte being the character with
 *   its number (latin1). End it with what ends an answer, such as `\r\n`: a server's
 *   bytes may come one by one, and what has matched is taken.
 *
 * @category Session
 */
export type Pattern = Bytes | RegExp;

/** A {@linkcode Pattern}, made ready. */
export type ReadyPattern = Uint8Array | RegExp;

/**
 * The bytes of a text, or a copy of what is given.
 *
 * @param bytes Text or bytes.
 */
export function toBytes(bytes: Bytes): Uint8Array {
  return typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes.slice();
}

/**
 * Makes a pattern ready: the same answer is found whenever it is looked for.
 *
 * @param pattern The pattern.
 */
export function toPattern(pattern: Pattern): ReadyPattern {
  if (!(pattern instanceof RegExp)) return toBytes(pattern);
  return new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, ""));
}

/**
 * Where in `received` a pattern ends.
 *
 * @param pattern What to look for.
 * @param received What has come so far.
 * @returns The offset behind it; `undefined`: it may still come; `"never"`: whatever
 *   comes, it does not begin like this.
 */
export function endOf(
  pattern: ReadyPattern,
  received: Uint8Array,
): number | "never" | undefined {
  if (pattern instanceof RegExp) {
    const found = pattern.exec(latin1(received));
    return found === null ? undefined : found.index + found[0].length;
  }
  const common = Math.min(pattern.length, received.length);
  for (let i = 0; i < common; i++) if (pattern[i] !== received[i]) return "never";
  return common === pattern.length ? common : undefined;
}

/** Each byte as the character with its number. */
export function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/**
 * Bytes in quotes, for a log: what is not plain ASCII is escaped, what is too long is cut.
 *
 * @param bytes Somebody else's bytes.
 * @param maxBytes How much of them is shown.
 */
export function quote(bytes: Uint8Array, maxBytes = MAX_SHOWN_BYTES): string {
  let text = "";
  for (const byte of bytes.subarray(0, maxBytes)) text += escaped(byte);
  return bytes.length > maxBytes ? `"${text}"… (${bytes.length} bytes)` : `"${text}"`;
}

/** A pattern, for a message. */
export function describePattern(pattern: ReadyPattern): string {
  return pattern instanceof RegExp ? String(pattern) : quote(pattern);
}

function escaped(byte: number): string {
  switch (byte) {
    case CARRIAGE_RETURN:
      return "\\r";
    case LINE_FEED:
      return "\\n";
    case TAB:
      return "\\t";
    default: {
      const character = String.fromCharCode(byte);
      if (character === '"' || character === "\\") return `\\${character}`;
      const plain = byte >= 0x20 && byte < 0x7f;
      return plain ? character : `\\x${byte.toString(16).padStart(2, "0")}`;
    }
  }
}
