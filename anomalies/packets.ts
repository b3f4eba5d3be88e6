/**
 * The packets of a run, each unlike the others.
 *
 * @module
 */

/** Longer than a server that was killed takes to reset; short, for every run waits for it. */
export const HOLD_MS = 400;

const PACKET_BYTES = 64;

/** Packet `number`: a line. */
export function packetOf(number: number): Uint8Array {
  return new TextEncoder().encode(`packet ${number} `.padEnd(PACKET_BYTES - 1, ".") + "\n");
}

/** The numbers of the whole packets in what one connection brought. */
export function numbersIn(text: string): number[] {
  const whole = text.slice(0, text.lastIndexOf("\n") + 1).split("\n").slice(0, -1);
  return whole.map((line) => {
    const number = Number(/^packet (\d+) \.+$/.exec(line)?.[1]);
    // Bytes that nobody has sent are no packet.
    return line.length === PACKET_BYTES - 1 ? number : NaN;
  });
}
