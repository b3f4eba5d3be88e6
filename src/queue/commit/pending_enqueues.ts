import type { PacketSpan } from "../store/types.ts";

/** Packets that wait to be stored together. There is one for each `enqueue`: it is to be small. */
export class PendingEnqueue implements PacketSpan {
  readonly block: Uint8Array;
  readonly start: number;
  readonly bytes: number;
  readonly packets: number;
  readonly sizes: Uint32Array | undefined;
  readonly expiresAtMs: number;
  /** The first packet's id, once they are on disk. */
  readonly stored: Promise<number>;
  /** Stored, from this id on. */
  readonly resolve: (firstId: number) => void;
  readonly reject: (reason: unknown) => void;
  /** `"withdrawn"`: its signal was aborted before the disk had it. */
  phase: "waiting" | "committing" | "withdrawn" = "waiting";
  signal: AbortSignal | undefined = undefined;
  /** Takes the listener off the signal. */
  release: (() => void) | undefined = undefined;

  /** The arguments are what a `PacketSpan` has: an object of them would be made in vain. */
  constructor(
    block: Uint8Array,
    start: number,
    bytes: number,
    expiresAtMs: number,
    sizes?: Uint32Array,
  ) {
    this.block = block;
    this.start = start;
    this.bytes = bytes;
    this.packets = sizes === undefined ? 1 : sizes.length;
    this.sizes = sizes;
    this.expiresAtMs = expiresAtMs;
    // Faster than `new Promise`: no closure of ours for each packet.
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.stored = promise;
    this.resolve = resolve;
    this.reject = reject;
  }
}

/**
 * Packets of this process that are not stored yet, first come, first served. Those that `take`
 * hands to a transaction stay in the counts until it has stored or refused them.
 */
export class PendingEnqueues {
  /** Those before `#head` are gone. */
  #units: PendingEnqueue[] = [];
  #head = 0;
  /** Packets that are neither stored nor refused yet, those in a transaction included. */
  packets = 0;
  bytes = 0;
  /** Packets that were stored, refused or withdrawn. */
  donePackets = 0;
  /** Units in `#units` that nobody waits for any more; at most. */
  #withdrawn = 0;

  /** Whether no unit waits for a transaction. */
  get isEmpty(): boolean {
    return this.#head === this.#units.length;
  }

  push(unit: PendingEnqueue): void {
    this.#units.push(unit);
    this.packets += unit.packets;
    this.bytes += unit.bytes;
  }

  /** Takes the first ones, up to these bounds; at least one when there is one. */
  take(maxPackets: number, maxBytes: number): PendingEnqueue[] {
    const units: PendingEnqueue[] = [];
    let packets = 0, bytes = 0;
    for (; this.#head < this.#units.length; this.#head++) {
      const unit = this.#units[this.#head];
      if (unit === undefined || unit.phase === "withdrawn") continue;
      packets += unit.packets;
      bytes += unit.bytes;
      if (units.length > 0 && (packets > maxPackets || bytes > maxBytes)) break;
      units.push(unit);
    }
    // Also while the line is never empty: what was taken must not stay in memory.
    if (2 * this.#head >= this.#units.length) {
      this.#units = this.#units.slice(this.#head);
      this.#head = 0;
    }
    return units;
  }

  putBack(units: readonly PendingEnqueue[]): void {
    this.#units = [...units, ...this.#units.slice(this.#head)];
    this.#head = 0;
  }

  /**
   * Nobody waits for a unit any more. Its bytes do not stay in memory until a transaction comes
   * by: while none can be asked for, more and more may be withdrawn.
   */
  withdraw(unit: PendingEnqueue): void {
    unit.phase = "withdrawn";
    this.uncount(unit);
    this.#withdrawn++;
    if (2 * this.#withdrawn < this.#units.length - this.#head) return;
    this.#units = this.#units.slice(this.#head).filter(({ phase }) => phase !== "withdrawn");
    this.#head = 0;
    this.#withdrawn = 0;
  }

  /** It is stored or refused. */
  uncount(unit: PendingEnqueue): void {
    this.packets -= unit.packets;
    this.donePackets += unit.packets;
    this.bytes -= unit.bytes;
  }
}
