/**
 * What follows from connections that break, one after the other, before anything they carried was
 * confirmed; why so is in docs/decisions/halving.md.
 *
 * First, from the second break on half as much is sent each time, until something is confirmed: a
 * server that ends every connection costs a packet a second and not the whole window. Where no
 * packet is ever given up, the first confirmation ends that.
 *
 * Second, and only where `maxAttempts` allows it, the packet that ends every connection is found
 * by halving: only one that is alone when its connection breaks is ever given up. Without one that is
 * confirmed in between, each needs twice as many breaks as the last.
 */

import type { Verdict } from "./liveness.ts";

export interface Break {
  /** Every packet up to this id is confirmed. */
  readonly confirmedId: number;
  /** The last packet that was sent and not confirmed. */
  readonly throughId: number;
  /** How many were sent and not confirmed: at least 1. */
  readonly packets: number;
}

/** More than it takes to halve the largest window down to one packet. */
const BREAKS_KEPT = 32;
/** After so many convictions in a row the next one takes about a thousand times as many breaks. */
const MAX_DOUBLINGS = 10;

export class Suspects {
  readonly #maxAttempts: number;
  /** The last packet under way in each of the last breaks; all began at what was confirmed then. */
  #breaks: number[] = [];
  /** Convictions since a packet was confirmed, and what was confirmed then. */
  #convictions = 0;
  #convictedAfterId = -1;
  /** What was confirmed when a connection last broke. */
  #confirmedAtBreak = -1;

  /** @param maxAttempts As many breaks convict a first packet; `Infinity`: none is ever given up. */
  constructor(maxAttempts: number) {
    this.#maxAttempts = maxAttempts;
  }

  /**
   * A connection broke through no fault of this host.
   *
   * @returns In how many connections the only packet under way was tried, if
   *   these are enough to give it up.
   */
  broke({ confirmedId, throughId, packets }: Break): number | undefined {
    if (confirmedId > this.#convictedAfterId) this.#convictions = 0;
    this.#breaks = this.#breaks.filter((id) => id > confirmedId);
    this.#breaks.push(throughId);
    this.#confirmedAtBreak = confirmedId;
    const attempts = this.#breaks.filter((id) => id >= throughId).length;
    const needed = this.#maxAttempts * 2 ** Math.min(this.#convictions, MAX_DOUBLINGS);
    if (packets === 1 && attempts >= needed) {
      this.#breaks = [];
      this.#convictions++;
      this.#convictedAfterId = confirmedId;
      return attempts;
    }
    // A break with many packets under way accuses each of them a little, one with few
    // accuses those few a lot: where there are too many, the widest can be spared.
    const kept = needed === Infinity ? BREAKS_KEPT : Math.max(needed, BREAKS_KEPT);
    if (this.#breaks.length > kept) {
      this.#breaks.sort((a, b) => a - b).pop();
    }
    return undefined;
  }

  /** Nothing above this id may be sent until more is confirmed, but for one packet. */
  trialThroughId(confirmedId: number): number {
    if (this.#breaks.length === 0) return Infinity;
    if (this.#maxAttempts === Infinity && confirmedId > this.#confirmedAtBreak) {
      this.#breaks = [];
      return Infinity;
    }
    const suspected = this.#breaks.filter((id) => id > confirmedId);
    if (suspected.length < 2) return Infinity;
    // The packets that were under way in each of these breaks: the culprit is among them.
    return confirmedId + Math.ceil((Math.min(...suspected) - confirmedId) / 2);
  }
}

/** So many connections in a row that the server ended early are a pattern, and named. */
const EARLY_CLOSES = 3;

/** Connections in a row that the server ended before everything was confirmed. */
export class EarlyCloses {
  readonly #confirmedBy: { readonly confirmedBy?: "reader" | "answer" };
  #times = 0;

  constructor(confirmedBy: "kernel" | "reader" | "answer") {
    this.#confirmedBy = confirmedBy === "kernel" ? {} : { confirmedBy };
  }

  /** What they come to; undefined: they are too few. */
  get verdict(): Verdict | undefined {
    if (this.#times < EARLY_CLOSES) return undefined;
    return { kind: "closes-early", times: this.#times, ...this.#confirmedBy };
  }

  /**
   * A connection has ended: by the server's FIN, or by its reset where nothing was confirmed,
   * it is one of them. An end that this side has decided says nothing either way.
   *
   * @param again How many packets were not confirmed.
   */
  ended({ kind }: Verdict, peerClosed: boolean, confirmedAny: boolean, again: number): void {
    if (kind === "ended-here") return;
    const early = again > 0 && (peerClosed || (kind === "reset" && !confirmedAny));
    this.#times = early ? this.#times + 1 : 0;
  }
}
