/**
 * Text and bytes, for packets that people can read.
 *
 * @module
 */

import assert from "node:assert/strict";

/** The bytes of these parts in a row: text as UTF-8, numbers as bytes. */
export function bytes(...parts: readonly (string | readonly number[])[]): Uint8Array {
  const utf8 = new TextEncoder();
  return new Uint8Array(
    parts.flatMap((part) => typeof part === "string" ? [...utf8.encode(part)] : part),
  );
}

/** The text of UTF-8 bytes that have to be there. */
export function text(payload: Uint8Array | undefined): string {
  assert(payload !== undefined);
  return new TextDecoder().decode(payload);
}
