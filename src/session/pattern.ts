/** Bytes that are written as text, and what a server's answer is held against. */

/** So much of what a server said is shown. */
const MAX_SHOWN_BYTES = 200;
/** What has a shorter name than its number. */
const ESCAPES: Readonly<Record<string, string>> = {
  "\r": "\\r",
  "\n": "\\n",
  "\t": "\\t",
  '"': '\\"',
  "\\": "\\\\",
};

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

/** A `Pattern`, made ready. */
export type ReadyPattern = Uint8Array | RegExp;

/** The bytes of a text, or a copy of what is given. */
export function toBytes(bytes: Bytes): Uint8Array {
  return typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes.slice();
}

/** Makes a pattern ready: the same answer is found whenever it is looked for. */
export function toPattern(pattern: Pattern): ReadyPattern {
  if (!(pattern instanceof RegExp)) return toBytes(pattern);
  return new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, ""));
}

/**
 * Where a pattern ends in what has come so far.
 *
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
 * Somebody else's bytes in quotes, for a log: what is not plain ASCII is escaped, what is too
 * long is cut.
 */
export function quote(bytes: Uint8Array, maxBytes = MAX_SHOWN_BYTES): string {
  const text = latin1(bytes.subarray(0, maxBytes)).replaceAll(
    /[^ -~]|["\\]/g,
    (found) => ESCAPES[found] ?? hexOf(found.charCodeAt(0)),
  );
  return bytes.length > maxBytes ? `"${text}"… (${bytes.length} bytes)` : `"${text}"`;
}

/** A pattern, for a message. */
export function describePattern(pattern: ReadyPattern): string {
  return pattern instanceof RegExp ? String(pattern) : quote(pattern);
}

/** `\x1b`, as a text for a person and a `RegExp` have it. */
export function hexOf(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}
