/**
 * What has drained and is not confirmed yet (ARCHITECTURE.md, rule 3): it may still lie in the
 * peer's kernel, unread, and die there with the program or the machine.
 *
 * Example, with a hold of 1 s: a packet is acknowledged at 5.00 s, and then there
 * is nothing to send. The peer's kernel is asked for a sign of life. It answers at
 * 6.01 s, so at 6.01 s the packet is confirmed. Had the cable been pulled at 5.01 s,
 * no answer would have come, and the packet would be sent again.
 */

import type { Confirmation } from "./confirmation.ts";

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
  /** Counted from the connection's first one. */
  throughPackets: number;
  /** When the first of them was acknowledged. */
  readonly firstAtMs: number;
  /** When the last of them was: from here on it is held. */
  sinceMs: number;
}

/** The hold of one connection. */
export class Hold implements Confirmation {
  /** What is acknowledged may be closed in order: see invariant 4 of `Connection`. */
  readonly openPackets = 0;
  confirmedThroughId = 0;
  confirmedPackets = 0;
  readonly #holdMs: number;
  readonly #held: Held[] = [];
  #drainedPackets = 0;

  constructor(holdMs: number) {
    this.#holdMs = holdMs;
  }

  get heldPackets(): number {
    return this.#drainedPackets - this.confirmedPackets;
  }

  /**
   * So many packets of the connection have drained, up to this id.
   *
   * @param sinceMs When the last acknowledgement came, or later.
   */
  drained(throughId: number, throughPackets: number, sinceMs: number): void {
    if (throughPackets === this.#drainedPackets) return;
    this.#drainedPackets = throughPackets;
    const last = this.#held.at(-1);
    if (last !== undefined && sinceMs - last.firstAtMs < this.#holdMs / HOLD_STEPS) {
      last.throughId = throughId;
      last.throughPackets = throughPackets;
      last.sinceMs = Math.max(last.sinceMs, sinceMs);
    } else {
      this.#held.push({ throughId, throughPackets, firstAtMs: sinceMs, sinceMs });
    }
  }

  /** The peer has begun to read again after a stall: everything is held anew from here on. */
  restart(sinceMs: number): void {
    for (const held of this.#held) held.sinceMs = Math.max(held.sinceMs, sinceMs);
  }

  /**
   * Confirms what was held long enough.
   *
   * @param vouchedUntilMs Up to when the peer is known to have been alive and reading.
   */
  confirm(vouchedUntilMs: number): void {
    let entries = 0;
    for (const held of this.#held) {
      if (this.#endsAtMs(held) > vouchedUntilMs) break;
      this.confirmedThroughId = held.throughId;
      this.confirmedPackets = held.throughPackets;
      entries++;
    }
    if (entries > 0) this.#held.splice(0, entries);
  }

  /** An overdue hold waits for a sign of life from the peer, and nobody is told when that comes. */
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
