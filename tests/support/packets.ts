/**
 * Numbered packets, each a line of its own.
 *
 * @module
 */

import { bytes } from "./bytes.ts";

/** The lines of so many packets, one after the other. */
export function lines(count: number, first = 1): string {
  return Array.from({ length: count }, (_, index) => `packet ${first + index}\n`).join("");
}

/** One packet. */
export function packet(number: number): Uint8Array {
  return bytes(lines(1, number));
}

/** So many packets. */
export function packets(count: number, first = 1): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => packet(first + index));
}
