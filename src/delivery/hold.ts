/**
 * What has drained and is not confirmed yet (ARCHITECTURE.md, rule 3): it may still lie in the
 * peer's kernel, unread, and die there with the program or the machine.
 *
 * Example, with a hold of 1 s: a packet is acknowledged at 5.00 s, and then there
 * is nothing to send. The peer's kernel is asked for a sign of life. It answers at
 * 6.01 s, so at 6.01 s the packet is confirmed. Had the cable been pulled at 5.01 s,
 * no answer would have come, and the packet would be sent again.
 */

/**
 * The kernel counts in jiffies of 1 to 10 ms, and each of the two times that a hold
 * lies between is rounded to one of them.
 */
export const HOLD_GRAIN_MS = 20;

/**
 * From when on what has drained is held. The process may have stood still between its clock and its
 * reading of the kernel: what came meanwhile must not be held from before it came. A hold that the
 * grain takes up is none: there the acknowledgement itself is the sign of life.
 *
 * @param aliveAtMs When the last segment came, by the clock before the reading: not later.
 * @param heardByMs The same by the clock behind it: not earlier.
 * @param holdMs How long it is held in all, whoever asks for that.
 */
export function heldSinceMs(aliveAtMs: number, heardByMs: number, holdMs: number): number {
  return holdMs > HOLD_GRAIN_MS ? Math.max(aliveAtMs, heardByMs) : aliveAtMs;
}

/** What drains within this fraction of `holdMs` shares one entry, and one removal. */
const HOLD_STEPS = 20;
/**
 * How often an overdue hold asks whether the sign of life has come. Where nothing else is said,
 * the kernel asks the peer a second after the last acknowledgement, and is up to 64 ms late.
 */
const OVERDUE_LEAST_MS = 20;
const OVERDUE_MOST_MS = 50;

interface Held {
  throughId: number;
  packets: number;
  /** When the first of them was acknowledged. */
  readonly firstAtMs: number;
  /** When the last of them was: from here on it is held. */
  sinceMs: number;
}

export class Hold {
  readonly #holdMs: number;
  #held: Held[] = [];
  #packets = 0;

  constructor(holdMs: number) {
    this.#holdMs = holdMs;
  }

  get heldPackets(): number {
    return this.#packets;
  }

  /**
   * Packets have drained, up to this id.
   *
   * @param sinceMs When the last acknowledgement came, or later.
   */
  add(throughId: number, packets: number, sinceMs: number): void {
    this.#packets += packets;
    const last = this.#held.at(-1);
    if (last !== undefined && sinceMs - last.firstAtMs < this.#holdMs / HOLD_STEPS) {
      last.throughId = throughId;
      last.packets += packets;
      last.sinceMs = Math.max(last.sinceMs, sinceMs);
    } else {
      this.#held.push({ throughId, packets, firstAtMs: sinceMs, sinceMs });
    }
  }

  /** The peer has begun to read again after a stall: everything is held anew from here on. */
  restart(sinceMs: number): void {
    for (const held of this.#held) held.sinceMs = Math.max(held.sinceMs, sinceMs);
  }

  /**
   * Lets go of what was held long enough: so many packets, up to an id.
   *
   * @param vouchedUntilMs Up to when the peer is known to have been alive and reading.
   */
  confirm(
    vouchedUntilMs: number,
  ): { readonly throughId: number; readonly packets: number } | undefined {
    let throughId = 0, packets = 0, entries = 0;
    for (const held of this.#held) {
      if (this.#endsAtMs(held) > vouchedUntilMs) break;
      throughId = held.throughId;
      packets += held.packets;
      entries++;
    }
    if (entries === 0) return undefined;
    this.#held.splice(0, entries);
    this.#packets -= packets;
    return { throughId, packets };
  }

  /** The connection is gone, and with it every hold. */
  clear(): void {
    this.#held = [];
    this.#packets = 0;
  }

  /**
   * In how many milliseconds to look again. An overdue hold waits for a sign of life from the peer,
   * and nobody is told when that comes.
   */
  dueInMs(nowMs: number): number {
    const first = this.#held[0];
    if (first === undefined) return Infinity;
    // Without the grain: a sign of life that counts because of it comes at its end at the earliest.
    const inMs = first.sinceMs + this.#holdMs - nowMs;
    if (inMs > 0) return inMs;
    return Math.min(OVERDUE_MOST_MS, Math.max(OVERDUE_LEAST_MS, -inMs / 4));
  }

  #endsAtMs({ sinceMs }: Held): number {
    return sinceMs + Math.max(0, this.#holdMs - HOLD_GRAIN_MS);
  }
}
