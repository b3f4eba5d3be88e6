/**
 * The packets of the laboratory: numbered lines, each different from all others.
 *
 * @module
 */

/**
 * One packet: the producer's letter, a number, and filling up to the newline.
 *
 * @param producer One letter.
 * @param number From 0.
 * @param bytes Its size with the newline; never below what number and letter need.
 */
export function packetOf(producer: string, number: number, bytes: number): string {
  return `${producer}${number} `.padEnd(bytes - 1, "x") + "\n";
}

/** The producer's letter, from a packet's first byte. */
export function producerOf(packet: Uint8Array): string {
  return String.fromCharCode(packet[0] ?? 0);
}

/** When something happened: milliseconds since 1970, advancing monotonically. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
